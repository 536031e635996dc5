using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Descriptors;

internal sealed record Feature(string Name, string Namespace, string FullName, string DisplayName, string Description);

/// <summary>Optional parts of Elsa's server. None is here, so the designer polls for progress and hides the tabs of the others.</summary>
internal static class Features
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/features/installed", () => new ListResponse<Feature>([]));
        api.MapGet("/features/installed/{fullName}", (string fullName) => Problems.NotFound("such feature"));
        api.MapGet("/package/version", () => new { PackageVersion = "3.8.2" });
    }
}
