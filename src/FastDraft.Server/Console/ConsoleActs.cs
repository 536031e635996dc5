namespace FastDraft.Server.ConsolePages;

/// <summary>Whatever a person changes in the console goes through here: who may, and as whom the audit remembers it.</summary>
public sealed class ConsoleActs
{
}
