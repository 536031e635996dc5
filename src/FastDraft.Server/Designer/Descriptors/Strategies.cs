using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Descriptors;

internal sealed record Strategy(string TypeName, string DisplayName, string Description);

/// <summary>What happens to a run when an activity fails is a choice; the other strategies of Elsa have one way here, so their lists are empty.</summary>
internal static class Strategies
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/descriptors/incident-strategies", () => new ListResponse<Strategy>(
        [
            new("Elsa.Workflows.IncidentStrategies.FaultStrategy, Elsa.Workflows.Core", "Fault", "The first failed activity ends the run."),
            new("Elsa.Workflows.IncidentStrategies.ContinueWithIncidentsStrategy, Elsa.Workflows.Core", "Continue with incidents", "Branches that do not depend on the failed activity go on."),
        ]));
        foreach (var empty in (string[])["workflow-activation-strategies", "log-persistence-strategies", "commit-strategies/workflows", "commit-strategies/activities", "output-converters"])
        {
            api.MapGet("/descriptors/" + empty, () => new ListResponse<Strategy>([]));
        }
    }
}
