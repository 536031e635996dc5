using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Descriptors;

internal sealed record VariableDescriptor(string TypeName, string DisplayName, string Category, string Description);

internal sealed record StorageDriver(string TypeName, string DisplayName, double Priority, bool Deprecated);

/// <summary>The types a variable may have, and the one place where its value is kept: with the run's state.</summary>
internal static class VariableDescriptors
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/descriptors/variables", () => new ListResponse<VariableDescriptor>(
        [
            new("String", "Text", "Primitives", "Text."),
            new("Boolean", "Boolean", "Primitives", "True or false."),
            new("Int32", "Whole number", "Primitives", "A whole number of 32 bits."),
            new("Int64", "Large whole number", "Primitives", "A whole number of 64 bits."),
            new("Double", "Number", "Primitives", "A number with a fraction."),
            new("DateTimeOffset", "Date and time", "Primitives", "A date and time with its offset."),
            new("TimeSpan", "Time span", "Primitives", "A span of time, as 00:05:00."),
            new("Object", "Any JSON", "Dynamic", "Any JSON value."),
            new("JsonObject", "JSON object", "Dynamic", "A JSON object."),
            new("JsonArray", "JSON list", "Dynamic", "A JSON list."),
            new("ObjectDictionary", "Dictionary", "Dynamic", "Names and values."),
        ]));
        api.MapGet("/descriptors/storage-drivers", () => new ListResponse<StorageDriver>(
            [new("Elsa.Workflows.WorkflowInstanceStorageDriver, Elsa.Workflows.Core", "With the run", 0, false)]));
    }
}
