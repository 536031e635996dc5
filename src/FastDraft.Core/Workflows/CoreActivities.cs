using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

public enum ActivityKind
{
    Action,

    /// <summary>May start a workflow (<c>customProperties.canStartWorkflow</c>); elsewhere it waits.</summary>
    Trigger,
    Task,
}

/// <summary>How an input's JSON is read.</summary>
public enum InputShape
{
    /// <summary><c>{ typeName, expression: { type, value } }</c>, or a bare scalar.</summary>
    Wrapped,

    /// <summary>Raw JSON, never an expression.</summary>
    Raw,

    /// <summary>Raw <c>[{ label, condition: { type, value }, activity? }]</c>.</summary>
    Cases,
}

/// <summary>An input of a core activity. <paramref name="Name"/> is as Studio shows it; JSON has it camel-cased.</summary>
/// <param name="Type">An Elsa type alias: String, Boolean, Int32, TimeSpan, Object, List&lt;String&gt; ...</param>
/// <param name="UiHint">The editor Studio shows.</param>
/// <param name="Syntax">The expression type Studio offers first where that is not Literal.</param>
public sealed record ActivityInput(
    string Name, string Type, string Description, string UiHint = "singleline", JsonNode? Default = null,
    IReadOnlyList<string>? Choices = null, InputShape Shape = InputShape.Wrapped, string? DisplayName = null, string? Syntax = null, bool Required = false)
{
    public string Key { get; } = CoreActivity.CamelCase(Name);
}

public sealed record ActivityOutput(string Name, string Type, string Description)
{
    public string Key { get; } = CoreActivity.CamelCase(Name);
}

/// <summary>
/// What the validator, the interpreter and the designer know of an activity that is not a stage. No outcome and not terminal means the
/// one outcome Done.
/// </summary>
public sealed record CoreActivity(string Type, string Category, string DisplayName, string Description)
{
    public IReadOnlyList<ActivityInput> Inputs { get; init; } = [];

    public IReadOnlyList<ActivityOutput> Outputs { get; init; } = [];

    /// <summary>Flow ports that are always there.</summary>
    public IReadOnlyList<string> Outcomes { get; init; } = [];

    /// <summary>The input whose list of texts, or of cases with a label, names further flow ports.</summary>
    public string? OutcomesFrom { get; init; }

    /// <summary>Slots that hold one child each; JSON has them camel-cased.</summary>
    public IReadOnlyList<string> Slots { get; init; } = [];

    /// <summary>The member that holds a list of children: <c>activities</c> or <c>branches</c>.</summary>
    public string? ChildList { get; init; }

    /// <summary>Declares <c>variables</c> of its own.</summary>
    public bool IsContainer { get; init; }

    public bool IsTerminal { get; init; }

    public bool IsStart { get; init; }

    /// <summary>False hides it from Studio's toolbox.</summary>
    public bool IsBrowsable { get; init; } = true;

    public ActivityKind Kind { get; init; } = ActivityKind.Action;

    public string Namespace => Type[..Type.LastIndexOf('.')];

    public string Name => Type[(Type.LastIndexOf('.') + 1)..];

    public ActivityInput? Input(string key) => Inputs.FirstOrDefault(i => string.Equals(i.Key, key, StringComparison.OrdinalIgnoreCase));

    internal static string CamelCase(string name) => char.ToLowerInvariant(name[0]) + name[1..];
}

/// <summary>The one table of the activities that the interpreter runs beside the stages.</summary>
public static class CoreActivities
{
    private static readonly string[] SwitchModes = ["MatchFirst", "MatchAny"];

    public static IReadOnlyList<CoreActivity> All { get; } =
    [
        new(ActivityTypes.Flowchart, "Flow", "Flowchart", "Activities and the connections between them.")
        {
            ChildList = "activities", IsContainer = true, IsBrowsable = false,
        },
        new(ActivityTypes.Sequence, "Workflows", "Sequence", "Runs its activities one after the other.")
        {
            ChildList = "activities", IsContainer = true, IsBrowsable = false,
        },
        new(ActivityTypes.Parallel, "Workflows", "Parallel", "Runs its activities side by side and waits for all of them.")
        {
            ChildList = "activities", IsContainer = true, IsBrowsable = false,
        },
        new(ActivityTypes.Fork, "Control Flow", "Fork", "Runs its branches side by side.")
        {
            ChildList = "branches", IsBrowsable = false,
            Inputs =
            [
                new("JoinMode", "ForkJoinMode", "Wait for all branches or for the first one.", "dropdown", "WaitAll", ["WaitAll", "WaitAny"], InputShape.Raw),
            ],
        },
        new(ActivityTypes.FlowNode, "Flow", "Container", "Runs the activity inside it.") { Slots = ["Body"] },
        new(ActivityTypes.Start, "Flow", "Start", "Marks where a flowchart starts.") { IsStart = true },
        new(ActivityTypes.End, "Flow", "End", "Completes the flowchart that it is in.") { IsTerminal = true },
        new(ActivityTypes.Finish, "Primitives", "Finish", "Ends the workflow at once; nothing that waits goes on.") { IsTerminal = true },
        new(ActivityTypes.Break, "Looping", "Break", "Leaves the loop that it is in.") { IsTerminal = true },
        new(ActivityTypes.Complete, "Composition", "Complete", "Completes the workflow that it is in, with outcomes.")
        {
            IsTerminal = true,
            Inputs = [new("Outcomes", "Object", "The outcome, or a list of them.", "outcome-picker", Syntax: "Object")],
        },
        new(ActivityTypes.FlowDecision, "Branching", "Decision", "Goes on by True or False.")
        {
            Outcomes = ["True", "False"],
            Inputs = [new("Condition", "Boolean", "What decides.", Default: false, Syntax: "JavaScript")],
        },
        new(ActivityTypes.FlowSwitch, "Branching", "Switch (flow)", "Goes on by the cases whose condition is true, or by Default.")
        {
            Outcomes = ["Default"], OutcomesFrom = "cases",
            Inputs =
            [
                new("Cases", "List<FlowSwitchCase>", "Labels and their conditions.", "flow-switch-editor", Shape: InputShape.Cases),
                new("Mode", "SwitchMode", "The first case that is true, or every one.", "dropdown", "MatchFirst", SwitchModes),
            ],
        },
        new(ActivityTypes.FlowFork, "Branching", "Fork (flow)", "Goes on by every branch at once.")
        {
            OutcomesFrom = "branches",
            Inputs = [new("Branches", "List<String>", "Names of the branches.", "dynamic-outcomes", Syntax: "Object")],
        },
        new(ActivityTypes.FlowJoin, "Branching", "Join", "Brings branches together.")
        {
            Inputs =
            [
                new("Mode", "FlowJoinMode", "WaitAny goes on with the first branch and cancels the others, WaitAll needs every branch, WaitAllActive every branch that was taken.",
                    "dropdown", "WaitAny", ["WaitAny", "WaitAll", "WaitAllActive"]),
            ],
        },
        new(ActivityTypes.If, "Branching", "If", "Runs one of two activities.")
        {
            Slots = ["Then", "Else"],
            Inputs = [new("Condition", "Boolean", "What decides.", Default: false, Syntax: "JavaScript")],
            Outputs = [new("Result", "Boolean", "What the condition was.")],
        },
        new(ActivityTypes.Switch, "Branching", "Switch", "Runs the activities of the cases whose condition is true, or the default one.")
        {
            Slots = ["Default"],
            Inputs =
            [
                new("Cases", "List<SwitchCase>", "Labels, conditions and activities.", "switch-editor", Shape: InputShape.Cases),
                new("Mode", "SwitchMode", "The first case that is true, or every one.", "dropdown", "MatchFirst", SwitchModes),
            ],
        },
        new(ActivityTypes.While, "Looping", "While", "Repeats an activity while a condition is true.")
        {
            Slots = ["Body"],
            Inputs = [new("Condition", "Boolean", "Evaluated before each round.", Default: false, Syntax: "JavaScript")],
        },
        new(ActivityTypes.For, "Looping", "For", "Repeats an activity from a number to a number.")
        {
            Slots = ["Body"],
            Inputs =
            [
                new("Start", "Int32", "The first number.", Default: 0),
                new("End", "Int32", "The last number.", Default: 0),
                new("Step", "Int32", "What is added each round; negative counts down.", Default: 1),
                new("OuterBoundInclusive", "Boolean", "Whether a round is made for End itself.", "checkbox", true),
            ],
            Outputs = [new("CurrentValue", "Object", "The number of the round.")],
        },
        new(ActivityTypes.ForEach, "Looping", "For each", "Repeats an activity for each item of a list, one after the other.")
        {
            Slots = ["Body"],
            Inputs = [new("Items", "List<Object>", "The list.", "multitext", Syntax: "Object")],
            Outputs = [new("CurrentValue", "Object", "The item of the round.")],
        },
        new(ActivityTypes.ParallelForEach, "Looping", "Parallel for each", "Runs an activity for each item of a list, side by side.")
        {
            Slots = ["Body"],
            Inputs = [new("Items", "Object", "The list.", "multitext", Syntax: "Object")],
        },
        new(ActivityTypes.SetVariable, "Primitives", "Set variable", "Gives a variable a value.")
        {
            Inputs =
            [
                new("Variable", "Variable", "The variable.", "variable-picker", Shape: InputShape.Raw, Required: true),
                new("Value", "Object", "Its new value.", Syntax: "JavaScript"),
            ],
        },
        new(ActivityTypes.SetOutput, "Composition", "Set output", "Gives an output of the workflow a value.")
        {
            Inputs =
            [
                new("OutputName", "String", "The output.", "output-picker", DisplayName: "Output", Required: true),
                new("OutputValue", "Object", "Its value.", DisplayName: "Value", Syntax: "JavaScript"),
            ],
        },
        new(ActivityTypes.SetName, "Primitives", "Set name", "Names the run.") { Inputs = [new("Value", "String", "The name.")] },
        new(ActivityTypes.Correlate, "Primitives", "Correlate", "Gives the run a correlation id, which events can name.")
        {
            Inputs = [new("CorrelationId", "String", "The correlation id.", DisplayName: "Correlation ID")],
        },
        new(ActivityTypes.WriteLine, "Console", "Write line", "Writes a line to the run's journal.") { Inputs = [new("Text", "String", "The line.")] },
        new(ActivityTypes.Fault, "Primitives", "Fault", "Faults with a message.")
        {
            Inputs =
            [
                new("Code", "String", "A code of your own.", Default: "0"),
                new("Category", "String", "A category of your own.", Default: "General"),
                new("FaultType", "String", "System, Business, Integration ...", DisplayName: "Type", Default: "System"),
                new("Message", "String", "What the incident says."),
            ],
        },
        new(ActivityTypes.RunJavaScript, "Scripting", "Run JavaScript", "Runs a script; setOutcome and setOutcomes choose how to go on.")
        {
            OutcomesFrom = "possibleOutcomes",
            Inputs =
            [
                new("Script", "String", "The script.", "code-editor", Syntax: "JavaScript"),
                new("PossibleOutcomes", "List<String>", "Outcomes that the script may set.", "dynamic-outcomes", Syntax: "Object"),
            ],
            Outputs = [new("Result", "Object", "The script's value.")],
        },
        new(ActivityTypes.Delay, "Scheduling", "Delay", "Waits for a time span.")
        {
            Inputs = [new("TimeSpan", "TimeSpan", "How long, as days.hours:minutes:seconds.", DisplayName: "Time span", Default: "00:01:00")],
        },
        new(ActivityTypes.Timer, "Scheduling", "Timer", "Starts the workflow at intervals; elsewhere it waits once.")
        {
            Kind = ActivityKind.Trigger,
            Inputs = [new("Interval", "TimeSpan", "The interval, as days.hours:minutes:seconds.", Default: "00:01:00")],
        },
        new(ActivityTypes.Cron, "Scheduling", "Cron", "Starts the workflow at the times of a cron expression; elsewhere it waits for the next one.")
        {
            Kind = ActivityKind.Trigger,
            Inputs = [new("CronExpression", "String", "Minute, hour, day, month, weekday; seconds may stand first.", DisplayName: "Cron expression", Required: true)],
        },
        new(ActivityTypes.StartAt, "Scheduling", "Start at", "Starts the workflow at a time; elsewhere it waits for it.")
        {
            Kind = ActivityKind.Trigger,
            Inputs = [new("DateTime", "DateTimeOffset", "The time, with its offset.", "datetime-picker", DisplayName: "Date and time", Required: true)],
        },
        new(ActivityTypes.Event, "Primitives", "Event", "Waits for an event of that name.")
        {
            Kind = ActivityKind.Trigger,
            Inputs = [new("EventName", "String", "The event's name.", DisplayName: "Event name", Required: true)],
            Outputs = [new("Result", "Object", "What the event carried.")],
        },
        new(ActivityTypes.PublishEvent, "Primitives", "Publish event", "Sends an event to everything that waits for it.")
        {
            Inputs =
            [
                new("EventName", "String", "The event's name.", DisplayName: "Event name", Required: true),
                new("CorrelationId", "String", "Only to runs with this correlation id.", DisplayName: "Correlation ID"),
                new("IsLocalEvent", "Boolean", "Only to this run.", "checkbox", false, DisplayName: "Local event"),
                new("Payload", "Object", "What the event carries.", Syntax: "JavaScript"),
            ],
        },
        new(ActivityTypes.ExecuteWorkflow, "Composition", "Execute workflow", "Runs another published workflow.")
        {
            Kind = ActivityKind.Task, Inputs = ChildInputs(), Outputs = [new("Result", "Object", "The child's run id, status and outputs.")],
        },
        new(ActivityTypes.DispatchWorkflow, "Composition", "Dispatch workflow", "Starts another published workflow beside this one.")
        {
            Inputs = ChildInputs(), Outputs = [new("Result", "Object", "The child's outputs, where it was waited for.")],
        },
        new(ActivityTypes.Gate, "FastDraft", "Gate", "Waits until a person approves or rejects.")
        {
            Kind = ActivityKind.Task, Outcomes = ["Approved", "Rejected"],
            Inputs =
            [
                new("Title", "String", "What is to be decided.", Required: true),
                new("Instructions", "String", "What to look at before deciding.", "multiline"),
            ],
            Outputs = [new("DecidedBy", "String", "Who decided."), new("Reason", "String", "Why.")],
        },
    ];

    public static IReadOnlyDictionary<string, CoreActivity> ByType { get; } = All.ToDictionary(a => a.Type, StringComparer.Ordinal);

    private static ActivityInput[] ChildInputs() =>
    [
        new("WorkflowDefinitionId", "String", "The workflow to run.", "workflow-definition-picker", DisplayName: "Workflow definition", Required: true),
        new("CorrelationId", "String", "The child's correlation id.", DisplayName: "Correlation ID"),
        new("Input", "ObjectDictionary", "The child's inputs, by name.", "dictionary", Syntax: "JavaScript"),
        new("WaitForCompletion", "Boolean", "Go on only when the child has ended.", "checkbox", false, DisplayName: "Wait for completion"),
    ];
}
