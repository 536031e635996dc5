using System;
using Microsoft.EntityFrameworkCore.Migrations;

#nullable disable

namespace FastDraft.Migrations.Sqlite.Migrations
{
    /// <inheritdoc />
    public partial class Waits : Migration
    {
        /// <inheritdoc />
        protected override void Up(MigrationBuilder migrationBuilder)
        {
            migrationBuilder.AddColumn<string>(
                name: "CorrelationId",
                table: "runs",
                type: "TEXT",
                nullable: true);

            migrationBuilder.AddColumn<string>(
                name: "ParentInstanceId",
                table: "runs",
                type: "TEXT",
                nullable: true);

            migrationBuilder.AddColumn<Guid>(
                name: "ParentRunId",
                table: "runs",
                type: "TEXT",
                nullable: true);

            migrationBuilder.AddColumn<string>(
                name: "ActivityInstanceId",
                table: "journal",
                type: "TEXT",
                nullable: false,
                defaultValue: "");

            migrationBuilder.AddColumn<string>(
                name: "ActivityType",
                table: "journal",
                type: "TEXT",
                nullable: false,
                defaultValue: "");

            migrationBuilder.AddColumn<string>(
                name: "DataJson",
                table: "journal",
                type: "TEXT",
                nullable: true);

            migrationBuilder.AddColumn<string>(
                name: "NodeId",
                table: "journal",
                type: "TEXT",
                nullable: false,
                defaultValue: "");

            migrationBuilder.AddColumn<string>(
                name: "ParentInstanceId",
                table: "journal",
                type: "TEXT",
                nullable: true);

            migrationBuilder.AddColumn<long>(
                name: "Sequence",
                table: "journal",
                type: "INTEGER",
                nullable: false,
                defaultValue: 0L);

            migrationBuilder.CreateTable(
                name: "waits",
                columns: table => new
                {
                    Id = table.Column<Guid>(type: "TEXT", nullable: false),
                    RunId = table.Column<Guid>(type: "TEXT", nullable: false),
                    ActivityInstanceId = table.Column<string>(type: "TEXT", nullable: false),
                    ActivityId = table.Column<string>(type: "TEXT", nullable: false),
                    Kind = table.Column<string>(type: "TEXT", nullable: false),
                    DueAt = table.Column<long>(type: "INTEGER", nullable: true),
                    EventName = table.Column<string>(type: "TEXT", nullable: true),
                    CorrelationId = table.Column<string>(type: "TEXT", nullable: true),
                    ChildRunId = table.Column<Guid>(type: "TEXT", nullable: true),
                    Title = table.Column<string>(type: "TEXT", nullable: true),
                    Instructions = table.Column<string>(type: "TEXT", nullable: true),
                    PayloadJson = table.Column<string>(type: "TEXT", nullable: true),
                    CreatedAt = table.Column<long>(type: "INTEGER", nullable: false)
                },
                constraints: table =>
                {
                    table.PrimaryKey("PK_waits", x => x.Id);
                    table.ForeignKey(
                        name: "FK_waits_runs_RunId",
                        column: x => x.RunId,
                        principalTable: "runs",
                        principalColumn: "Id",
                        onDelete: ReferentialAction.Cascade);
                });

            migrationBuilder.CreateIndex(
                name: "IX_runs_ParentRunId",
                table: "runs",
                column: "ParentRunId");

            migrationBuilder.CreateIndex(
                name: "IX_waits_ChildRunId",
                table: "waits",
                column: "ChildRunId");

            migrationBuilder.CreateIndex(
                name: "IX_waits_DueAt",
                table: "waits",
                column: "DueAt");

            migrationBuilder.CreateIndex(
                name: "IX_waits_EventName",
                table: "waits",
                column: "EventName");

            migrationBuilder.CreateIndex(
                name: "IX_waits_RunId_ActivityInstanceId",
                table: "waits",
                columns: new[] { "RunId", "ActivityInstanceId" },
                unique: true);
        }

        /// <inheritdoc />
        protected override void Down(MigrationBuilder migrationBuilder)
        {
            migrationBuilder.DropTable(
                name: "waits");

            migrationBuilder.DropIndex(
                name: "IX_runs_ParentRunId",
                table: "runs");

            migrationBuilder.DropColumn(
                name: "CorrelationId",
                table: "runs");

            migrationBuilder.DropColumn(
                name: "ParentInstanceId",
                table: "runs");

            migrationBuilder.DropColumn(
                name: "ParentRunId",
                table: "runs");

            migrationBuilder.DropColumn(
                name: "ActivityInstanceId",
                table: "journal");

            migrationBuilder.DropColumn(
                name: "ActivityType",
                table: "journal");

            migrationBuilder.DropColumn(
                name: "DataJson",
                table: "journal");

            migrationBuilder.DropColumn(
                name: "NodeId",
                table: "journal");

            migrationBuilder.DropColumn(
                name: "ParentInstanceId",
                table: "journal");

            migrationBuilder.DropColumn(
                name: "Sequence",
                table: "journal");
        }
    }
}
