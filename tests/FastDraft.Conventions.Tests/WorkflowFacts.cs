using FastDraft.Core.Workflows;
using FastDraft.Stages;
using FastDraft.TestKit;

namespace FastDraft.Conventions.Tests;

public sealed class WorkflowFacts
{
    public static TheoryData<string> Workflows() => [.. Directory.EnumerateFiles(Path.Join(Executable.Repository, "workflows"), "*.json").Select(f => Path.GetFileName(f)!).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Workflows))]
    public void Every_workflow_is_valid_and_uses_known_settings_only(string file)
    {
        var path = Path.Join(Executable.Repository, "workflows", file);
        Assert.Empty(WorkflowValidator.Validate(File.ReadAllText(path), file, BuiltinStages.Descriptors).Select(e => $"{e.File}:{e.Line}:{e.Column} {e.Message} try: {e.Try}"));
    }

    [Theory]
    [MemberData(nameof(Workflows))]
    public void Every_input_of_a_workflow_says_what_it_is(string file)
    {
        var definition = WorkflowDefinition.Parse(File.ReadAllText(Path.Join(Executable.Repository, "workflows", file)));
        Assert.All(definition.Inputs, input => Assert.False(string.IsNullOrWhiteSpace(input.Description), input.Name));
    }

    [Fact]
    public void Every_stage_setting_and_port_says_what_it_is()
    {
        foreach (var stage in BuiltinStages.Descriptors)
        {
            Assert.All(stage.Settings, s => Assert.False(string.IsNullOrWhiteSpace(s.Description), $"{stage.Name}.{s.Name}"));
            Assert.All(stage.Inputs.Concat(stage.Outputs), p => Assert.False(string.IsNullOrWhiteSpace(p.Description), $"{stage.Name}.{p.Name}"));
        }
    }

    [Fact]
    public void Catalog_and_descriptors_name_the_same_stages() =>
        Assert.Subset(BuiltinStages.Descriptors.Select(d => d.Name).ToHashSet(), BuiltinStages.Create().Select(s => s.Descriptor.Name).ToHashSet());
}
