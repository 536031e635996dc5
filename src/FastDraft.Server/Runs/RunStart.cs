using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Http;

namespace FastDraft.Server.Runs;

/// <summary>What a caller of the API may say of a new run.</summary>
internal sealed record StartRequest(JsonObject? Inputs, bool BypassCache = false, string? TriggerActivityId = null, string? CorrelationId = null);

/// <summary>Submits a run for a caller of the API: what would fail hours later is refused here, before there is a run.</summary>
internal static class RunStart
{
    /// <returns>The run, or why there is none.</returns>
    public static async Task<(Guid? Run, IResult? Refusal)> TryAsync(
        WorkflowDefinition definition, StartRequest request, IdempotencyKey? key, PipelineHost host, PipelineOptions options, CancellationToken ct)
    {
        var inputs = new Dictionary<string, JsonNode?>(StringComparer.Ordinal);
        foreach (var (name, value) in request.Inputs ?? [])
        {
            if (!definition.Inputs.Any(i => i.Name == name))
            {
                return (null, Problems.Result(StatusCodes.Status400BadRequest, $"The workflow has no input '{name}'."));
            }

            inputs[name] = value?.DeepClone();
        }

        foreach (var missing in definition.Inputs.Where(i => i.Default is null && !inputs.ContainsKey(i.Name)))
        {
            inputs[missing.Name] = null;
        }

        var absolute = RunInputs.Absolute(options, definition, inputs, Environment.CurrentDirectory);
        return RunInputs.Check(options, definition, absolute) is { Count: > 0 } problems
            ? (null, Problems.Result(StatusCodes.Status400BadRequest, [.. problems.Select(Sentence)]))
            : (await host.SubmitAsync(definition, absolute, request.BypassCache, request.TriggerActivityId, request.CorrelationId, key, ct), null);
    }

    // Whoever reads this has fields before them, not a command line.
    private static string Sentence(RunProblem problem) =>
        $"{problem.Where}: {problem.Message.TrimEnd('.')}." + (problem.Hint is null || problem.Hint.StartsWith("--", StringComparison.Ordinal) ? "" : $" Try: {problem.Hint}");
}
