using Microsoft.EntityFrameworkCore.Migrations;

#nullable disable

namespace FastDraft.Migrations.Sqlite.Migrations
{
    /// <inheritdoc />
    public partial class AttemptEnvironment : Migration
    {
        /// <inheritdoc />
        protected override void Up(MigrationBuilder migrationBuilder)
        {
            migrationBuilder.AddColumn<string>(
                name: "EnvironmentJson",
                table: "attempts",
                type: "TEXT",
                nullable: true);
        }

        /// <inheritdoc />
        protected override void Down(MigrationBuilder migrationBuilder)
        {
            migrationBuilder.DropColumn(
                name: "EnvironmentJson",
                table: "attempts");
        }
    }
}
