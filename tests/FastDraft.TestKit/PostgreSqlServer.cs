using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace FastDraft.TestKit;

/// <summary>
/// A private PostgreSQL cluster in a folder of its own, on a free port, as a user without rights. It is stopped and deleted when the
/// process that started it ends, however it ends.
/// </summary>
public sealed class PostgreSqlServer : IDisposable
{
    public const string Missing = "SKIPPED: PostgreSQL is not installed here (apt install postgresql); nothing was tried on it.";

    // What runs as the cluster's user: it lives until the pipe from the tests closes.
    private const string Keeper = """
        set -e
        "$1/initdb" -D "$2/data" -U fastdraft -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$2/log" 2>&1
        printf '%s\n' "$3" >>"$2/data/postgresql.conf"
        "$1/pg_ctl" -D "$2/data" -l "$2/log" -w -t 60 start >>"$2/log" 2>&1
        echo ready
        cat >/dev/null
        "$1/pg_ctl" -D "$2/data" -m immediate stop >>"$2/log" 2>&1 || true
        rm -rf "$2/data" "$2/log" "$2"/.s.*
        """;

    private static readonly string? Binaries = Find();
    private static readonly Lazy<Task<PostgreSqlServer>> OfProcess = new(() => Task.Run(() => new PostgreSqlServer(isDurable: false)));

    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-pg-").FullName;
    private readonly int port = FreePort();
    private readonly Process keeper;
    private int numDatabases;

    /// <param name="isDurable">True: it writes as a real one does. Without, a crash of the machine would lose data; a crash of PostgreSQL does not.</param>
    public PostgreSqlServer(bool isDurable)
    {
        var settings = $"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\nmax_connections = 300\nshared_buffers = 64MB\n"
            + (isDurable ? "" : "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n");
        if (User is not null)
        {
            Run("chown", User, folder);
        }

        var start = AsUser("sh", ["-c", Keeper, "sh", Binaries ?? throw new InvalidOperationException(Missing), folder, settings]);
        start.RedirectStandardInput = true;
        start.RedirectStandardOutput = true;
        keeper = Process.Start(start)!;
        if (keeper.StandardOutput.ReadLine() != "ready")
        {
            throw new InvalidOperationException("PostgreSQL does not start: " + File.ReadAllText(Path.Join(folder, "log")));
        }
    }

    /// <summary>Null where there is PostgreSQL; otherwise why a fact about it is skipped.</summary>
    /// <exception cref="InvalidOperationException">There is none, and FASTDRAFT_REQUIRE_SERVERS=1 says that there must be.</exception>
    public static string? WhyNot => Binaries is not null ? null
        : Environment.GetEnvironmentVariable("FASTDRAFT_REQUIRE_SERVERS") == "1" ? throw new InvalidOperationException(Missing) : Missing;

    // PostgreSQL refuses to run as root.
    private static string? User { get; } = Environment.UserName != "root" ? null : File.ReadLines("/etc/passwd").Any(l => l.StartsWith("postgres:", StringComparison.Ordinal)) ? "postgres" : "nobody";

    /// <summary>The one cluster of this test process.</summary>
    public static Task<PostgreSqlServer> OfThisProcessAsync() => OfProcess.Value;

    /// <summary>Makes a database, empty or as a copy of another one that nobody is connected to.</summary>
    /// <returns>Its connection string.</returns>
    public string NewDatabase(string? template = null)
    {
        var name = "t" + Interlocked.Increment(ref numDatabases).ToString(CultureInfo.InvariantCulture);
        string[] copied = template is null ? [] : ["-T", template];
        Run(Path.Join(Binaries, "createdb"), ["-h", "127.0.0.1", "-p", port.ToString(CultureInfo.InvariantCulture), "-U", "fastdraft", .. copied, name]);
        return $"Host=127.0.0.1;Port={port};Username=fastdraft;Database={name};Maximum Pool Size=40;Connection Idle Lifetime=5;Connection Pruning Interval=2";
    }

    /// <summary>Writes all of a database of this server into a file, as of one instant.</summary>
    public void Dump(string connection, string file) => Run(Path.Join(Binaries, "pg_dump"), ["--format=custom", "--file=" + file, .. At(connection)]);

    /// <summary>Makes a database from a file that <see cref="Dump"/> wrote.</summary>
    /// <returns>Its connection string.</returns>
    public string Restore(string file)
    {
        var connection = NewDatabase();
        Run(Path.Join(Binaries, "pg_restore"), ["--no-owner", "--exit-on-error", .. At(connection), file]);
        return connection;
    }

    /// <summary>As after a crash: every connection breaks, what was committed is there again.</summary>
    public void Restart()
    {
        Stop();
        Start();
    }

    public void Stop() => Control("-m", "immediate", "stop");

    public void Start() => Control("-l", Path.Join(folder, "log"), "-w", "-t", "60", "start");

    public void Dispose()
    {
        keeper.StandardInput.Close();
        keeper.WaitForExit();
        keeper.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    private string[] At(string connection) =>
        ["-h", "127.0.0.1", "-p", port.ToString(CultureInfo.InvariantCulture), "-U", "fastdraft", "-d", connection.Split(';').Single(p => p.StartsWith("Database=", StringComparison.Ordinal))["Database=".Length..]];

    private void Control(params string[] arguments)
    {
        using var process = Process.Start(AsUser(Path.Join(Binaries, "pg_ctl"), ["-s", "-D", Path.Join(folder, "data"), .. arguments]))!;
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"pg_ctl {string.Join(' ', arguments)}: {File.ReadAllText(Path.Join(folder, "log"))}");
        }
    }

    private static ProcessStartInfo AsUser(string file, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(User is null ? file : "setpriv") { WorkingDirectory = Path.GetTempPath() };
        string[] changed = User is null ? [] : ["--reuid", User, "--regid", User == "nobody" ? "nogroup" : User, "--clear-groups", file];
        foreach (var argument in changed.Concat(arguments))
        {
            start.ArgumentList.Add(argument);
        }

        return start;
    }

    private static void Run(string file, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(file, arguments) { RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{file} {string.Join(' ', arguments)}: {error}");
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static string? Find()
    {
        string[] folders = [.. Directory.Exists("/usr/lib/postgresql") ? Directory.GetDirectories("/usr/lib/postgresql").OrderDescending(StringComparer.Ordinal).Select(f => Path.Join(f, "bin")) : [], "/usr/bin", "/usr/local/bin"];
        return folders.FirstOrDefault(f => File.Exists(Path.Join(f, "initdb")));
    }
}
