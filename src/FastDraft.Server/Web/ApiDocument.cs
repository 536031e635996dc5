using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.Server.Security;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.OpenApi;

namespace FastDraft.Server.Web;

/// <summary>
/// <c>GET /api/openapi.json</c>: every address of the API, made from the routes that are served. Who may use an address is said from the table
/// that decides it, as <c>x-role</c>.
/// </summary>
internal static partial class ApiDocument
{
    private const string Path = "/api/openapi.json";
    private const string Scheme = "token";

    public static void AddApiDocument(this IServiceCollection services) => services.AddOpenApi(options =>
    {
        options.ShouldInclude = description => $"/{description.RelativePath}".StartsWith("/api/", StringComparison.Ordinal);
        options.AddDocumentTransformer((document, _, _) =>
        {
            document.Info = new OpenApiInfo
            {
                Title = "FastDraft Pipeline", Version = "1",
                Description = "Times are ISO 8601. Errors are application/problem+json, with sentences in errors.GeneralErrors. A POST that creates something takes the header Idempotency-Key.",
            };

            // Whoever has the document knows where it came from, and behind a proxy better than the service does.
            document.Servers?.Clear();
            document.Components ??= new OpenApiComponents();
            document.Components.SecuritySchemes ??= new Dictionary<string, IOpenApiSecurityScheme>();
            document.Components.SecuritySchemes[Scheme] = new OpenApiSecurityScheme { Type = SecuritySchemeType.Http, Scheme = "bearer", Description = "fastdraft token create NAME" };
            document.Security = [new OpenApiSecurityRequirement { [new OpenApiSecuritySchemeReference(Scheme, document)] = [] }];
            return Task.CompletedTask;
        });
        options.AddOperationTransformer(async (operation, context, ct) =>
        {
            var address = Plain($"{context.Description.HttpMethod} /{context.Description.RelativePath!.TrimEnd('/')}");
            operation.Extensions ??= new Dictionary<string, IOpenApiExtension>();
            operation.Extensions["x-role"] = new JsonNodeExtension(JsonValue.Create(RoleOf(address).ToString()!.ToLowerInvariant()));
            operation.Responses ??= [];
            var problem = await context.GetOrCreateSchemaAsync(typeof(Problem), null, ct);
            foreach (var (status, meaning) in (ReadOnlySpan<(string, string)>)[("401", "No token, or one that does not work any more."), ("403", "The token's role is too small."), ("4XX", "The request cannot be done; it says why.")])
            {
                operation.Responses[status] = new OpenApiResponse
                {
                    Description = meaning, Content = new Dictionary<string, OpenApiMediaType> { ["application/problem+json"] = new() { Schema = problem } },
                };
            }
        });
    });

    public static void Map(IEndpointRouteBuilder routes) => routes.MapOpenApi(Path);

    /// <summary>An address as the document writes it: without the conditions of its places.</summary>
    public static string Plain(string row) => Places().Replace(row, "{$1}");

    private static Persistence.Security.Role RoleOf(string address) => AccessTable.Least.Single(r => Plain(r.Key) == address).Value;

    [GeneratedRegex(@"\{\**([A-Za-z]+)(?::[^}]*)?\}")]
    private static partial Regex Places();
}
