namespace FastDraft.Modeling.Tokenization;

/// <summary>A tokenizer.json that cannot be read exactly: the message says what is wrong and where in the file.</summary>
public sealed class TokenizerException(string message, Exception? inner = null) : Exception(message, inner);
