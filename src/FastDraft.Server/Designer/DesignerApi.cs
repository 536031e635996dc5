using FastDraft.Server.Designer.Definitions;
using FastDraft.Server.Designer.Descriptors;
using FastDraft.Server.Designer.Instances;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer;

/// <summary>The part of Elsa's API that Elsa Studio 3.8.2 calls, over our tables. A route is one file; this is the list of them.</summary>
internal static class DesignerApi
{
    public static void Map(IEndpointRouteBuilder app)
    {
        var api = app.MapGroup("/elsa/api");

        ActivityDescriptors.Map(api);
        ExpressionDescriptors.Map(api);
        VariableDescriptors.Map(api);
        Strategies.Map(api);
        Features.Map(api);

        ListDefinitions.Map(api);
        GetDefinition.Map(api);
        GetSubgraph.Map(api);
        SaveDefinition.Map(api);
        PublishDefinition.Map(api);
        RetractDefinition.Map(api);
        RevertDefinition.Map(api);
        DeleteDefinition.Map(api);
        ImportDefinition.Map(api);
        ExportDefinition.Map(api);
        ExecuteDefinition.Map(api);

        ListInstances.Map(api);
        GetInstance.Map(api);
        GetJournal.Map(api);
        GetActivityExecutions.Map(api);
        CancelInstance.Map(api);
        RetryInstance.Map(api);
        DeleteInstance.Map(api);
        ExportInstance.Map(api);
    }
}
