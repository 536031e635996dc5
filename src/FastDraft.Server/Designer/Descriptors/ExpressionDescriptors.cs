using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Server.Definitions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Descriptors;

internal sealed record ExpressionDescriptor(string Type, string DisplayName, bool IsBrowsable, JsonObject Properties)
{
    public bool IsSerializable => true;
}

/// <summary>The expression types that the interpreter evaluates, and what a script may call.</summary>
internal static class ExpressionDescriptors
{
    private const string Functions = """
        declare function getVariable(name: string): any;
        declare function setVariable(name: string, value: any): void;
        declare function getInput(name: string): any;
        declare function getOutputFrom(activityIdOrName: string, outputName?: string): any;
        declare function getLastResult(): any;
        declare function getCorrelationId(): string;
        declare function setCorrelationId(value: string): void;
        declare function getWorkflowInstanceId(): string;
        declare function getWorkflowInstanceName(): string;
        declare function setWorkflowInstanceName(value: string): void;
        declare function getWorkflowDefinitionId(): string;
        declare function getWorkflowDefinitionVersion(): number;
        declare function getWorkflowDefinitionVersionId(): string;
        declare function isNullOrWhiteSpace(value: any): boolean;
        declare function isNullOrEmpty(value: any): boolean;
        declare function toJson(value: any): string;

        """;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/descriptors/expression-descriptors", () => new ListResponse<ExpressionDescriptor>(
        [
            new("Literal", "Literal", false, []),
            new("Object", "Object", false, Language("json")),
            new("Json", "Json", false, Language("json")),
            new("Variable", "Variable", true, []),
            new("Input", "Input", true, []),
            new("JavaScript", "JavaScript", true, Language("javascript")),
            new("Liquid", "Liquid", true, Language("liquid")),
        ]));

        // What the script editor completes.
        api.MapPost("/scripting/javascript/type-definitions/{definitionId}", async (string definitionId, DefinitionStore definitions, CancellationToken ct) =>
        {
            var text = new StringBuilder(Functions);
            var definition = await definitions.FindAsync(definitionId, VersionSelection.Latest, ct);
            if (definition is not null && definition.WhyUnreadable() is null)
            {
                var names = definition.Parse().Variables.Where(v => v.Name.Length > 0 && v.Name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_')).Select(v => v.Name).Distinct().ToList();
                text.Append("declare const variables: { ").AppendJoin("; ", names.Select(n => n + ": any")).Append(" };\n");
            }

            return Results.Text(text.ToString(), "application/x-typescript");
        });
    }

    private static JsonObject Language(string language) => new() { ["MonacoLanguage"] = language };
}
