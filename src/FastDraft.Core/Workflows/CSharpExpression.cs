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

    private int _at;
    private int _depth;

    /// <exception cref="ExpressionException">It is not of the part described above, or its types do not fit.</exception>
    public JsonNode? Evaluate()
    {
        if (source.Length > MaxLength)
        {
            throw new ExpressionException($"the expression has {source.Length} characters; at most {MaxLength} are read");
        }

        if (Takes("return "))
        {
            Space();
        }

        var value = Conditional();
        Takes(";");
        return _at < source.Length ? throw Unknown() : ToJson(value);
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

    private object? Conditional()
    {
        if (++_depth > MaxDepth)
        {
            throw new ExpressionException($"C#: more than {MaxDepth} levels");
        }

        var condition = Coalesce();
        if (Takes("?"))
        {
            var then = Conditional();
            Expect(":");
            var otherwise = Conditional();
            condition = Flag(condition) ? then : otherwise;
        }

        _depth--;
        return condition;
    }

    private object? Coalesce()
    {
        var value = Or();
        return Takes("??") ? Coalesce() is var other && value is null ? other : value : value;
    }

    private object? Or()
    {
        var value = And();
        while (Takes("||"))
        {
            var other = Flag(And());
            value = Flag(value) || other;
        }

        return value;
    }

    private object? And()
    {
        var value = Equality();
        while (Takes("&&"))
        {
            var other = Flag(Equality());
            value = Flag(value) && other;
        }

        return value;
    }

    private object? Equality()
    {
        var value = Relation();
        while (true)
        {
            if (Takes("=="))
            {
                value = AreEqual(value, Relation());
            }
            else if (Takes("!="))
            {
                value = !AreEqual(value, Relation());
            }
            else
            {
                return value;
            }
        }
    }

    private object? Relation()
    {
        var value = Sum();
        while (true)
        {
            if (Takes("<="))
            {
                value = Number(value) <= Number(Sum());
            }
            else if (Takes(">="))
            {
                value = Number(value) >= Number(Sum());
            }
            else if (Takes("<"))
            {
                value = Number(value) < Number(Sum());
            }
            else if (Takes(">"))
            {
                value = Number(value) > Number(Sum());
            }
            else
            {
                return value;
            }
        }
    }

    private object? Sum()
    {
        var value = Product();
        while (true)
        {
            if (Takes("+"))
            {
                var other = Product();
                value = value is string || other is string || value is null || other is null ? Bounded(Text(value) + Text(other)) : Arithmetic('+', value, other);
            }
            else if (Takes("-"))
            {
                value = Arithmetic('-', value, Product());
            }
            else
            {
                return value;
            }
        }
    }

    private object? Product()
    {
        var value = Unary();
        while (true)
        {
            var sign = Peek() is '*' or '/' or '%' ? source[_at] : '\0';
            if (sign == '\0')
            {
                return value;
            }

            _at++;
            value = Arithmetic(sign, value, Unary());
        }
    }

    private object? Unary()
    {
        if (++_depth > MaxDepth)
        {
            throw new ExpressionException($"C#: more than {MaxDepth} levels");
        }

        object? value = Peek() switch
        {
            '!' when Ahead(1) != '=' => Takes("!") ? !Flag(Unary()) : null,
            '-' => Takes("-") ? Arithmetic('-', 0L, Unary()) : null,
            _ => Postfix(Primary()),
        };
        _depth--;
        return value;
    }

    private object? Postfix(object? value)
    {
        while (Takes("."))
        {
            value = (Word(), value) switch
            {
                ("Length", string text) => (long)text.Length,
                ("Count" or "Length", JsonArray array) => (long)array.Count,
                ("ToString", _) => Call(Text(value)),
                ("ToUpper" or "ToUpperInvariant", string text) => Call(text.ToUpperInvariant()),
                ("ToLower" or "ToLowerInvariant", string text) => Call(text.ToLowerInvariant()),
                ("Trim", string text) => Call(text.Trim()),
                var (name, _) when value is JsonObject json => Unwrap(json.Member(name)),
                _ => throw Unknown(),
            };
        }

        return value;

        object Call(string result)
        {
            Expect("(");
            Expect(")");
            return result;
        }
    }

    private object? Primary()
    {
        var next = Peek();
        if (next == '(')
        {
            _at++;
            var inner = Conditional();
            Expect(")");
            return inner;
        }

        if (next == '"')
        {
            _at++;
            return Quoted(false, false);
        }

        if (next is '$' or '@')
        {
            var mark = source[_at..].StartsWith("$@\"", StringComparison.Ordinal) || source[_at..].StartsWith("@$\"", StringComparison.Ordinal) ? 2 : 1;
            if (_at + mark < source.Length && source[_at + mark] == '"')
            {
                var (interpolated, verbatim) = (source.AsSpan(_at, mark).Contains('$'), source.AsSpan(_at, mark).Contains('@'));
                _at += mark + 1;
                return Quoted(interpolated, verbatim);
            }

            throw Unknown();
        }

        if (char.IsAsciiDigit(next))
        {
            return Digits();
        }

        var start = _at;
        switch (Word())
        {
            case "true":
                return true;
            case "false":
                return false;
            case "null":
                return null;
            case "Variables":
                Expect(".");
                return Unwrap(variable(Word()));
            case "Variable" or "Input" when source[start] is 'V' or 'I':
                var read = source[start] == 'V' ? variable : input;
                Expect(".");
                if (Word() != "Get")
                {
                    break;
                }

                if (Takes("<"))
                {
                    _at = source.IndexOf('>', _at) is var end && end > 0 ? end + 1 : throw Unknown();
                }

                Expect("(");
                var name = Primary() as string ?? throw Unknown();
                Expect(")");
                return Unwrap(read(name));
        }

        _at = start;
        throw Unknown();
    }

    private string Quoted(bool interpolated, bool verbatim)
    {
        var text = new StringBuilder();
        while (_at < source.Length)
        {
            var c = source[_at++];
            switch (c)
            {
                case '"' when verbatim && Here() == '"':
                    _at++;
                    text.Append('"');
                    break;
                case '"':
                    Space();
                    return Bounded(text.ToString());
                case '\\' when !verbatim:
                    text.Append(Escape());
                    break;
                case '{' when interpolated && Here() == '{':
                case '}' when interpolated && Here() == '}':
                    _at++;
                    text.Append(c);
                    break;
                case '{' when interpolated:
                    Space();
                    var value = Coalesce();
                    var format = Here() == ':' ? source[(_at + 1)..(source.IndexOf('}', _at) is var end && end > 0 ? end : throw Unknown())] : null;
                    _at += format is null ? 0 : format.Length + 1;
                    if (Here() != '}')
                    {
                        throw Unknown();
                    }

                    _at++;
                    text.Append(format is null ? Text(value) : Formatted(value, format));
                    break;
                default:
                    text.Append(c);
                    break;
            }
        }

        throw new ExpressionException("C#: a text does not end");
    }

    private static string Formatted(object? value, string format)
    {
        if (format.Length > 20)
        {
            throw new ExpressionException($"C#: the format '{format}' is too long");
        }

        try
        {
            return value is IFormattable formattable && format is not [_, _, _, _, ..] ? formattable.ToString(format, CultureInfo.InvariantCulture) : Text(value);
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
        while (_at < source.Length && (char.IsAsciiDigit(source[_at]) || (source[_at] == '.' && char.IsAsciiDigit(Ahead(1)))))
        {
            _at++;
        }

        var text = source[start.._at];
        Space();
        return text.Contains('.', StringComparison.Ordinal) ? double.Parse(text, CultureInfo.InvariantCulture)
            : long.TryParse(text, CultureInfo.InvariantCulture, out var whole) ? whole
            : throw new ExpressionException($"C#: {text} is too large");
    }

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
            System.Text.Json.JsonValueKind.Number => long.TryParse(node.ToJsonString(), CultureInfo.InvariantCulture, out var whole)
                ? whole
                : double.Parse(node.ToJsonString(), CultureInfo.InvariantCulture),
            _ => node.AsText(),
        },
    };

    private static object Arithmetic(char sign, object? left, object? right)
    {
        if (left is long a && right is long b)
        {
            try
            {
                // Whole numbers stay whole, as C# has it.
                return checked(sign switch { '+' => a + b, '-' => a - b, '*' => a * b, '/' => a / b, _ => a % b });
            }
            catch (ArithmeticException e)
            {
                throw new ExpressionException($"C#: {a} {sign} {b}: {e.Message}", e);
            }
        }

        var (x, y) = (Number(left), Number(right));
        return sign switch { '+' => x + y, '-' => x - y, '*' => x * y, '/' => x / y, _ => x % y };
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
