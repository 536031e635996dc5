using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

/// <summary>
/// The part of C# that people write into a designer's field: literals, interpolated texts, arithmetic, comparison, logic, <c>?:</c>,
/// <c>??</c>, <c>Variables.X</c>, <c>Variable.Get("X")</c> and <c>Input.Get&lt;T&gt;("X")</c>. It is read and evaluated here, because compiled C# cannot be kept
/// inside; anything else is an error that points to JavaScript.
/// </summary>
internal sealed class CSharpExpression(string source, Func<string, JsonNode?> variable, Func<string, JsonNode?> input)
{
    private const int MaxLength = 64 << 10;
    private const int MaxDepth = 64;
    private const int MaxOperators = 1000;

    // Weakest first; a sign that begins another stands after it.
    private static readonly string[][] Operators = [["||"], ["&&"], ["==", "!="], ["<=", ">=", "<", ">"], ["+", "-"], ["*", "/", "%"]];

    private int _at;
    private int _depth;
    private int _numOperators;

    /// <summary>A part that has been read; evaluated only where C# would evaluate it.</summary>
    private delegate object? Part();

    /// <exception cref="ExpressionException">It is not of the part described above, or its types do not fit.</exception>
    public JsonNode? Evaluate()
    {
        if (source.Length > MaxLength)
        {
            throw new ExpressionException($"the expression has {source.Length} characters; at most {MaxLength} are read");
        }

        Takes("return ");
        var value = Conditional();
        Takes(";");
        return _at < source.Length ? throw Unknown() : ToJson(value());
    }

    private static JsonNode? ToJson(object? value) => value switch
    {
        null => null,
        JsonNode node => node.DeepClone(),
        long whole => whole,
        double number => double.IsFinite(number) ? number : null,
        bool flag => flag,
        _ => (string)value,
    };

    private ExpressionException Unknown() => new(
        $"C#: '{source[_at..Math.Min(source.Length, _at + 20)]}' at {_at + 1} is not of what C# expressions can be here (literals, $\"...\", arithmetic, comparison, ?:, Variables.X, Input.Get<T>(\"X\")); use JavaScript");

    private Part Nested(Func<Part> read)
    {
        if (++_depth > MaxDepth)
        {
            throw new ExpressionException($"C#: more than {MaxDepth} levels");
        }

        var part = read();
        _depth--;
        return part;
    }

    private Part Conditional() => Nested(() =>
    {
        var condition = Coalesce();
        if (!Takes("?"))
        {
            return condition;
        }

        var then = Conditional();
        Expect(":");
        var otherwise = Conditional();
        return () => Flag(condition()) ? then() : otherwise();
    });

    private Part Coalesce() => Nested(() =>
    {
        var value = Binary(0);
        if (!Takes("??"))
        {
            return value;
        }

        var otherwise = Coalesce();
        return () => value() ?? otherwise();
    });

    private Part Binary(int level)
    {
        if (level == Operators.Length)
        {
            return Unary();
        }

        var value = Binary(level + 1);
        while (Array.Find(Operators[level], Takes) is { } sign)
        {
            // A chain of operators is as deep to evaluate as it is long.
            if (++_numOperators > MaxOperators)
            {
                throw new ExpressionException($"C#: more than {MaxOperators} operators");
            }

            var (left, right) = (value, Binary(level + 1));
            value = () => Apply(sign, left, right);
        }

        return value;
    }

    private static object? Apply(string sign, Part left, Part right) => sign switch
    {
        "||" => Flag(left()) || Flag(right()),
        "&&" => Flag(left()) && Flag(right()),
        "==" => AreEqual(left(), right()),
        "!=" => !AreEqual(left(), right()),
        "<=" => Number(left()) <= Number(right()),
        ">=" => Number(left()) >= Number(right()),
        "<" => Number(left()) < Number(right()),
        ">" => Number(left()) > Number(right()),
        _ => Arithmetic(sign, left(), right()),
    };

    private Part Unary() => Nested(() =>
    {
        if (Peek() == '!' && Takes("!"))
        {
            var flag = Unary();
            return () => !Flag(flag());
        }

        if (Takes("-"))
        {
            var number = Unary();
            return () => Arithmetic("-", 0L, number());
        }

        return Postfix(Primary());
    });

    private Part Postfix(Part value)
    {
        while (Takes("."))
        {
            var (owner, name, isCall) = (value, Word(), Takes("("));
            if (isCall)
            {
                Expect(")");
            }

            value = () => Member(owner(), name, isCall);
        }

        return value;
    }

    private static object? Member(object? owner, string name, bool isCall) => (owner, name, isCall) switch
    {
        (string text, "Length", false) => (long)text.Length,
        (JsonArray array, "Count" or "Length", false) => (long)array.Count,
        (JsonObject json, _, false) => Unwrap(json.Member(name)),
        (_, "ToString", true) => Text(owner),
        (string text, "ToUpper" or "ToUpperInvariant", true) => text.ToUpperInvariant(),
        (string text, "ToLower" or "ToLowerInvariant", true) => text.ToLowerInvariant(),
        (string text, "Trim", true) => text.Trim(),
        _ => throw new ExpressionException($"C#: '{Text(owner)}' has no '{name}' here; use JavaScript"),
    };

    private Part Primary()
    {
        var next = Peek();
        if (next == '(')
        {
            _at++;
            var inner = Conditional();
            Expect(")");
            return inner;
        }

        if (next is '"' or '$' or '@')
        {
            var mark = source[_at..].IndexOf('"', StringComparison.Ordinal);
            var (isInterpolated, isVerbatim) = mark < 0 ? default : (source.AsSpan(_at, mark).Contains('$'), source.AsSpan(_at, mark).Contains('@'));
            if (mark != (isInterpolated ? 1 : 0) + (isVerbatim ? 1 : 0))
            {
                throw Unknown();
            }

            _at += mark + 1;
            return Quoted(isInterpolated, isVerbatim);
        }

        if (char.IsAsciiDigit(next))
        {
            var number = Digits();
            return () => number;
        }

        var start = _at;
        switch (Word())
        {
            case "true":
                return () => true;
            case "false":
                return () => false;
            case "null":
                return () => null;
            case "Variables" when Takes("."):
                var member = Word();
                return () => Unwrap(variable(member));
            case "Variable" or "Input" when Takes(".") && Word() == "Get":
                if (Takes("<"))
                {
                    _at = source.IndexOf('>', _at) is var end && end > 0 ? end + 1 : throw Unknown();
                }

                Expect("(");
                var name = Conditional();
                Expect(")");
                var read = source[start] == 'V' ? variable : input;
                return () => Unwrap(read(name() as string ?? throw new ExpressionException("C#: Get takes a name")));
        }

        _at = start;
        throw Unknown();
    }

    // Text and the values between; what is between is evaluated each time.
    private Part Quoted(bool isInterpolated, bool isVerbatim)
    {
        var (parts, text) = (new List<Part>(), new StringBuilder());
        while (_at < source.Length)
        {
            var c = source[_at++];
            switch (c)
            {
                case '"' when isVerbatim && Here() == '"':
                case '{' when isInterpolated && Here() == '{':
                case '}' when isInterpolated && Here() == '}':
                    _at++;
                    text.Append(c);
                    break;
                case '"':
                    Space();
                    Keep();
                    return () => Bounded(string.Concat(parts.Select(part => part())));
                case '\\' when !isVerbatim:
                    text.Append(Escape());
                    break;
                case '{' when isInterpolated:
                    Keep();
                    parts.Add(Inserted());
                    break;
                default:
                    text.Append(c);
                    break;
            }
        }

        throw new ExpressionException("C#: a text does not end");

        void Keep()
        {
            var kept = text.ToString();
            text.Clear();
            parts.Add(() => kept);
        }
    }

    private Part Inserted()
    {
        Space();
        var value = Coalesce();
        var end = source.IndexOf('}', _at);
        if (end < 0 || (end > _at && Here() != ':'))
        {
            throw Unknown();
        }

        var format = end > _at ? source[(_at + 1)..end] : null;
        _at = end + 1;
        return () => format is null ? Text(value()) : Formatted(value(), format);
    }

    private static string Formatted(object? value, string format)
    {
        // A standard format names up to a billion digits.
        if (format.Length > 20 || (char.IsAsciiLetter(format.FirstOrDefault()) && format.Length > 3))
        {
            throw new ExpressionException($"C#: the format '{format}' is too long");
        }

        try
        {
            return value is IFormattable formattable ? formattable.ToString(format, CultureInfo.InvariantCulture) : Text(value);
        }
        catch (FormatException e)
        {
            throw new ExpressionException($"C#: '{format}' is no format: {e.Message}", e);
        }
    }

    private char Escape() => (_at < source.Length ? source[_at++] : '\0') switch
    {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '"' => '"',
        '\'' => '\'',
        '\\' => '\\',
        '0' => '\0',
        _ => throw Unknown(),
    };

    private object Digits()
    {
        var start = _at;
        while (char.IsAsciiDigit(Here()) || (Here() == '.' && char.IsAsciiDigit(Ahead(1))))
        {
            _at++;
        }

        var text = source[start.._at];
        Space();
        return Whole(text) ?? (text.Contains('.', StringComparison.Ordinal) ? double.Parse(text, CultureInfo.InvariantCulture) : throw new ExpressionException($"C#: {text} is too large"));
    }

    // A long and a double side by side would both become a double.
    private static object? Whole(string text) => long.TryParse(text, CultureInfo.InvariantCulture, out var whole) ? whole : null;

    private string Word()
    {
        Space();
        var start = _at;
        while (_at < source.Length && (char.IsLetterOrDigit(source[_at]) || source[_at] == '_'))
        {
            _at++;
        }

        var word = source[start.._at];
        Space();
        return word;
    }

    private static object? Unwrap(JsonNode? node) => node switch
    {
        null => null,

        // Without the cast the compiler makes every arm a JsonNode.
        JsonObject or JsonArray => (object)node,
        _ => node.GetValueKind() switch
        {
            System.Text.Json.JsonValueKind.True => true,
            System.Text.Json.JsonValueKind.False => false,
            System.Text.Json.JsonValueKind.Number => Whole(node.ToJsonString()) ?? double.Parse(node.ToJsonString(), CultureInfo.InvariantCulture),
            _ => node.AsText(),
        },
    };

    private static object Arithmetic(string sign, object? left, object? right)
    {
        if (sign == "+" && (left is string or null || right is string or null))
        {
            return Bounded(Text(left) + Text(right));
        }

        if (left is long a && right is long b)
        {
            try
            {
                // Whole numbers stay whole, as C# has it.
                return checked(sign switch { "+" => a + b, "-" => a - b, "*" => a * b, "/" => a / b, _ => a % b });
            }
            catch (ArithmeticException e)
            {
                throw new ExpressionException($"C#: {a} {sign} {b}: {e.Message}", e);
            }
        }

        var (x, y) = (Number(left), Number(right));
        return sign switch { "+" => x + y, "-" => x - y, "*" => x * y, "/" => x / y, _ => x % y };
    }

    private static bool AreEqual(object? left, object? right) => left is long or double && right is long or double
        ? Number(left).Equals(Number(right))
        : left is JsonNode || right is JsonNode ? JsonNode.DeepEquals(ToJson(left), ToJson(right)) : Equals(left, right);

    private static double Number(object? value) => value switch
    {
        long whole => whole,
        double number => number,
        _ => throw new ExpressionException($"C#: a number is expected, got '{Text(value)}'"),
    };

    private static bool Flag(object? value) => value is bool flag ? flag : throw new ExpressionException($"C#: true or false is expected, got '{Text(value)}'");

    private static string Text(object? value) => value switch
    {
        null => "",
        string text => text,
        bool flag => flag ? "True" : "False",
        JsonNode node => node.ToJsonString(),
        _ => ((IFormattable)value).ToString(null, CultureInfo.InvariantCulture),
    };

    private static string Bounded(string text) => text.Length <= 1 << 20 ? text : throw new ExpressionException("C#: a text has more than a million characters");

    private char Here() => _at < source.Length ? source[_at] : '\0';

    private char Ahead(int offset) => _at + offset < source.Length ? source[_at + offset] : '\0';

    private char Peek()
    {
        Space();
        return Here();
    }

    private void Space()
    {
        while (_at < source.Length && char.IsWhiteSpace(source[_at]))
        {
            _at++;
        }
    }

    private bool Takes(string sign)
    {
        Space();
        if (!source.AsSpan(_at).StartsWith(sign, StringComparison.Ordinal) || (sign == "?" && Ahead(1) == '?'))
        {
            return false;
        }

        _at += sign.Length;
        Space();
        return true;
    }

    private void Expect(string sign)
    {
        if (!Takes(sign))
        {
            throw Unknown();
        }
    }
}
