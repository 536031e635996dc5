namespace FastDraft.Core.Workflows;

/// <summary>The Elsa activities that the interpreter runs beside the stages, with the inputs each of them reads.</summary>
public static class ActivityTypes
{
    public const string Workflow = "Elsa.Workflow";
    public const string NotFound = "Elsa.NotFoundActivity";
    public const string Flowchart = "Elsa.Flowchart";
    public const string Sequence = "Elsa.Sequence";
    public const string Start = "Elsa.Start";
    public const string FlowDecision = "Elsa.FlowDecision";
    public const string FlowSwitch = "Elsa.FlowSwitch";
    public const string FlowFork = "Elsa.FlowFork";
    public const string FlowJoin = "Elsa.FlowJoin";
    public const string SetVariable = "Elsa.SetVariable";
    public const string SetOutput = "Elsa.SetOutput";
    public const string WriteLine = "Elsa.WriteLine";
    public const string Finish = "Elsa.Finish";
    public const string Fault = "Elsa.Fault";

    /// <summary>Type to the camelCase names of its inputs.</summary>
    public static IReadOnlyDictionary<string, IReadOnlyList<string>> Inputs { get; } = new Dictionary<string, IReadOnlyList<string>>(StringComparer.Ordinal)
    {
        [Flowchart] = [],
        [Sequence] = [],
        [Start] = [],
        [FlowDecision] = ["condition"],
        [FlowSwitch] = ["cases", "mode"],
        [FlowFork] = ["branches"],
        [FlowJoin] = ["mode"],
        [SetVariable] = ["variable", "value"],
        [SetOutput] = ["outputName", "outputValue"],
        [WriteLine] = ["text"],
        [Finish] = [],
        [Fault] = ["code", "category", "faultType", "message"],
    };
}
