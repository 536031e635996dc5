using System;
using Microsoft.EntityFrameworkCore.Migrations;

#nullable disable

namespace FastDraft.Migrations.Sqlite.Migrations
{
    /// <inheritdoc />
    public partial class SeveralHosts : Migration
    {
        /// <inheritdoc />
        protected override void Up(MigrationBuilder migrationBuilder)
        {
            migrationBuilder.DropPrimaryKey(
                name: "PK_path_digests",
                table: "path_digests");

            migrationBuilder.AddColumn<long>(
                name: "EnqueuedAt",
                table: "stage_runs",
                type: "INTEGER",
                nullable: true);

            migrationBuilder.AddColumn<string>(
                name: "JobId",
                table: "stage_runs",
                type: "TEXT",
                nullable: true);

            migrationBuilder.AddColumn<string>(
                name: "Machine",
                table: "path_digests",
                type: "TEXT",
                nullable: false,
                defaultValue: "");

            migrationBuilder.AddPrimaryKey(
                name: "PK_path_digests",
                table: "path_digests",
                columns: new[] { "Machine", "Path" });

            migrationBuilder.CreateTable(
                name: "attempt_log",
                columns: table => new
                {
                    AttemptId = table.Column<Guid>(type: "TEXT", nullable: false),
                    Number = table.Column<int>(type: "INTEGER", nullable: false),
                    At = table.Column<long>(type: "INTEGER", nullable: false),
                    Lines = table.Column<string>(type: "TEXT", nullable: false)
                },
                constraints: table =>
                {
                    table.PrimaryKey("PK_attempt_log", x => new { x.AttemptId, x.Number });
                    table.ForeignKey(
                        name: "FK_attempt_log_attempts_AttemptId",
                        column: x => x.AttemptId,
                        principalTable: "attempts",
                        principalColumn: "Id",
                        onDelete: ReferentialAction.Cascade);
                });

            migrationBuilder.CreateIndex(
                name: "IX_stage_runs_working",
                table: "stage_runs",
                column: "KeyDigest",
                unique: true,
                filter: "\"State\" IN ('Running', 'Cancelling')");

            migrationBuilder.CreateIndex(
                name: "IX_attempt_log_At",
                table: "attempt_log",
                column: "At");
        }

        /// <inheritdoc />
        protected override void Down(MigrationBuilder migrationBuilder)
        {
            migrationBuilder.DropTable(
                name: "attempt_log");

            migrationBuilder.DropIndex(
                name: "IX_stage_runs_working",
                table: "stage_runs");

            migrationBuilder.DropPrimaryKey(
                name: "PK_path_digests",
                table: "path_digests");

            migrationBuilder.DropColumn(
                name: "EnqueuedAt",
                table: "stage_runs");

            migrationBuilder.DropColumn(
                name: "JobId",
                table: "stage_runs");

            migrationBuilder.DropColumn(
                name: "Machine",
                table: "path_digests");

            migrationBuilder.AddPrimaryKey(
                name: "PK_path_digests",
                table: "path_digests",
                column: "Path");
        }
    }
}
