namespace FastDraft.Core.Workflows;

/// <summary>The text is no workflow definition. Line and column count from 1; 0 where the place is not known.</summary>
public sealed class WorkflowFormatException(string message, int line = 0, int column = 0, string jsonPath = "$", Exception? inner = null)
    : Exception(message, inner)
{
    public int Line { get; } = line;

    public int Column { get; } = column;

    public string JsonPath { get; } = jsonPath;
}
