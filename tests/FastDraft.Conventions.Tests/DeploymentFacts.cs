using System.Diagnostics;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using FastDraft.Cli;
using FastDraft.Server.Security;
using FastDraft.Server.Web;
using FastDraft.TestKit;
using k8s;
using k8s.Models;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;
using YamlDotNet.Serialization;

namespace FastDraft.Conventions.Tests;

/// <summary>
/// What infra/ starts is this program, asked as it wants to be asked: its commands, addresses, images and limits hold without a container
/// engine or a cluster.
/// </summary>
public sealed partial class DeploymentFacts
{
    private const string Gaudi = "fastdraft-gaudi";

    private static readonly string[] ComposeFiles = ["docker-compose.yml", "infra/docker/embedded.yml"];

    [Fact]
    public void Every_YAML_file_can_be_read_and_no_key_stands_twice()
    {
        var files = Files("infra").Where(f => f.EndsWith(".yml", StringComparison.Ordinal) || f.EndsWith(".yaml", StringComparison.Ordinal)).Append("docker-compose.yml").ToList();
        Assert.InRange(files.Count, 10, 100);
        Assert.All(files, file =>
        {
            var stream = new YamlStream();
            stream.Load(new StringReader(Text(file)));
            Assert.NotEmpty(stream.Documents);
        });
    }

    [Fact]
    public void Every_manifest_has_the_fields_that_Kubernetes_knows_and_no_others()
    {
        Assert.Contains(Manifests(), o => o is V1StatefulSet);
        Assert.Contains(Manifests(), o => o is V1NetworkPolicy);
        Assert.Equal(2, Trainings().Count);
        var listed = Document("infra/k8s/kustomization.yaml")["resources"]!.AsArray().Select(r => (string)r!).Order(StringComparer.Ordinal);
        Assert.Equal(Files("infra/k8s").Select(f => Path.GetFileName(f)!).Except(["kustomization.yaml", "pytorchjob-gaudi.yaml"]).Order(StringComparer.Ordinal), listed);
    }

    [Fact]
    public void Every_container_starts_a_command_that_the_program_has()
    {
        var commands = Pods().SelectMany(p => p.Spec.Containers).Where(c => c.Args is not null).Select(c => c.Args.ToArray())
            .Concat(ComposeFiles.SelectMany(f => Services(f)).Where(s => Image(s).StartsWith("fastdraft", StringComparison.Ordinal)).Select(s => Strings(s["command"])))
            .Concat(Units().Select(u => u["ExecStart"].Split(' ')[1..]))
            .Concat(Files("infra/docker").Where(f => f.EndsWith("Dockerfile", StringComparison.Ordinal)).SelectMany(f => DefaultArguments().Matches(Text(f)).Select(m => JsonNode.Parse(m.Groups[1].Value)!.AsArray().Select(a => (string)a!).ToArray())))
            .ToList();
        Assert.InRange(commands.Count, 9, 50);
        using var interrupts = new Interrupts();
        var root = CommandLine.Build(interrupts);
        Assert.All(commands, c => Assert.True(root.Parse(c).Errors.Count == 0, $"fastdraft {string.Join(' ', c)}"));
    }

    [Fact]
    public void Probes_ask_addresses_that_are_open_by_a_name_that_is_allowed_at_the_port_that_is_listened_on()
    {
        var containers = Pods().SelectMany(p => p.Spec.Containers).ToList();
        var probes = containers.SelectMany(c => new[] { c.StartupProbe, c.LivenessProbe, c.ReadinessProbe }.OfType<V1Probe>().Select(p => (Container: c, Get: p.HttpGet))).ToList();
        Assert.Equal(3, probes.Count);
        var port = new Uri(WebOptions.DefaultUrl).Port;
        Assert.All(probes, probe =>
        {
            Assert.Contains("GET " + probe.Get.Path, AccessTable.Open);
            Assert.Equal("localhost", probe.Get.HttpHeaders.Single(h => h.Name == "Host").Value);
            Assert.Equal(port, probe.Container.Ports.Single(p => p.Name == probe.Get.Port.Value).ContainerPort);
            Assert.Equal(port, new Uri(probe.Container.Args[^1]).Port);
        });
        Assert.Contains(probes, p => p.Container.ReadinessProbe.HttpGet.Path == "/health/ready" && p.Container.LivenessProbe.HttpGet.Path == "/health/live");

        Assert.All(ComposeFiles, file =>
        {
            var check = string.Concat(Strings(Document(file)["services"]!["server"]!["healthcheck"]!["test"]));
            var address = Asked().Match(check);
            Assert.Equal(port.ToString(System.Globalization.CultureInfo.InvariantCulture), address.Groups[1].Value);
            Assert.Contains("GET " + address.Groups[2].Value, AccessTable.Open);
            Assert.Contains("Host: localhost", check, StringComparison.Ordinal);
            Assert.Equal(WebOptions.DefaultUrl, Strings(Document(file)["services"]!["server"]!["command"])[^1]);
        });
    }

    [Fact]
    public void The_names_by_which_the_service_is_called_are_names_that_it_answers_to()
    {
        var settings = Manifests().OfType<V1ConfigMap>().ToList();
        Assert.Equal(["fastdraft", Gaudi], settings.Select(s => s.Metadata.NamespaceProperty).Order(StringComparer.Ordinal));
        Assert.Equal(settings[0].Data, settings[1].Data);
        var ingress = Manifests().OfType<V1Ingress>().Single();
        Assert.Equal(new Uri(settings[0].Data["FASTDRAFT_URL"]).Host, ingress.Spec.Rules.Single().Host);
        Assert.Equal(ingress.Spec.Rules.Single().Host, ingress.Spec.Tls.Single().Hosts.Single());

        var service = Manifests().OfType<V1Service>().Single();
        var server = Pods().Single(p => p.Metadata.Labels["app.kubernetes.io/component"] == "server").Spec.Containers.Single();
        Assert.Equal($"{service.Metadata.Name}.{service.Metadata.NamespaceProperty}.svc", server.Env.Single(e => e.Name == "FASTDRAFT_ALLOWED_HOSTS").Value);
        Assert.Equal(service.Metadata.Name, ingress.Spec.Rules.Single().Http.Paths.Single().Backend.Service.Name);

        var scrape = Document("infra/prometheus/prometheus.yml")["scrape_configs"]![0]!;
        var target = new Uri("http://" + (string?)scrape["static_configs"]![0]!["targets"]![0]);
        var compose = Document("docker-compose.yml");
        Assert.Equal((string?)compose["services"]!["server"]!["environment"]!["FASTDRAFT_ALLOWED_HOSTS"], target.Host);
        Assert.StartsWith($"TCP-LISTEN:{target.Port},", Strings(compose["services"]!["door"]!["command"])[0], StringComparison.Ordinal);
        Assert.Equal(WebOptions.DefaultUrl, "http://" + Strings(compose["services"]!["door"]!["command"])[1]["TCP:".Length..]);
        Assert.Equal("/run/secrets/" + Strings(compose["services"]!["prometheus"]!["secrets"]).Single(), (string?)scrape["authorization"]!["credentials_file"]);
    }

    [Fact]
    public void Pods_have_no_more_rights_than_they_need()
    {
        var levels = Manifests().OfType<V1Namespace>().ToDictionary(n => n.Metadata.Name, n => n.Metadata.Labels["pod-security.kubernetes.io/enforce"]);
        Assert.Equal("restricted", levels["fastdraft"]);
        Assert.All(Workloads(), workload =>
        {
            var pod = workload.Template.Spec;
            Assert.False(pod.AutomountServiceAccountToken);
            Assert.DoesNotContain(pod.Volumes, v => v.HostPath is not null);
            Assert.NotEqual(true, pod.HostNetwork);
            Assert.All(pod.Containers, c =>
            {
                Assert.NotEqual(true, c.SecurityContext.Privileged);
                Assert.Equal(false, c.SecurityContext.AllowPrivilegeEscalation);
                Assert.Contains("memory", c.Resources.Limits.Keys);
            });
            if (workload.Namespace == "fastdraft")
            {
                Assert.True(pod.SecurityContext.RunAsNonRoot);
                Assert.Equal("RuntimeDefault", pod.SecurityContext.SeccompProfile.Type);
                Assert.NotEqual(true, pod.HostIPC);
                Assert.All(pod.Containers, c => Assert.True(c.SecurityContext.ReadOnlyRootFilesystem));
                Assert.All(pod.Containers, c => Assert.Equal(["ALL"], c.SecurityContext.Capabilities.Drop));
                Assert.All(pod.Containers, c => Assert.Null(c.SecurityContext.Capabilities.Add));
            }
        });

        // In each namespace everything is forbidden first, and every policy chooses pods that exist.
        var policies = Manifests().OfType<V1NetworkPolicy>().ToList();
        Assert.All(levels.Keys, name => Assert.Contains(policies, p => p.Metadata.NamespaceProperty == name && p.Spec.PodSelector.MatchLabels is null && p.Spec.Ingress is null && p.Spec.Egress is null && p.Spec.PolicyTypes.Count == 2));
        Assert.All(policies, p => Assert.Contains(Workloads(), w => w.Namespace == p.Metadata.NamespaceProperty
            && (p.Spec.PodSelector.MatchLabels?.All(l => w.Template.Metadata.Labels.TryGetValue(l.Key, out var value) && value == l.Value) ?? true)));
    }

    [Fact]
    public void No_container_of_the_compose_files_runs_as_root_may_gain_rights_or_is_reached_from_other_machines()
    {
        foreach (var file in ComposeFiles)
        {
            Assert.All(Document(file)["services"]!.AsObject(), entry =>
            {
                var service = entry.Value!;
                Assert.Contains("ALL", Strings(service["cap_drop"]));
                Assert.Contains("no-new-privileges:true", Strings(service["security_opt"]));
                Assert.Null(service["privileged"]);
                Assert.DoesNotContain(Strings(service["volumes"]), v => v.Contains("docker.sock", StringComparison.Ordinal));
                Assert.All(Strings(service["ports"]), p => Assert.StartsWith("127.0.0.1:", p, StringComparison.Ordinal));
            });
        }
    }

    [Fact]
    public void Images_are_pinned_and_those_of_this_project_have_its_version_and_a_Dockerfile()
    {
        var version = XDocument.Load(Path.Join(Executable.Repository, "Directory.Build.props")).Descendants("Version").Single().Value;
        var built = Files("infra/docker").Where(f => f.EndsWith("Dockerfile", StringComparison.Ordinal)).Select(f => Path.GetFileName(Path.GetDirectoryName(f))!).Select(n => n == "server" ? "fastdraft" : "fastdraft-" + n).ToList();
        var images = Pods().SelectMany(p => p.Spec.Containers).Select(c => c.Image).Concat(ComposeFiles.SelectMany(Services).Select(Image))
            .Concat(Files("infra").Append("docs/how-to/deploy.md").Append("docs/how-to/run-on-gaudi.md").SelectMany(f => Builds().Matches(Text(f)).Select(m => m.Groups[1].Value))).ToList();
        Assert.All(images, image =>
        {
            var (name, tag) = (image[..image.LastIndexOf(':')], image[(image.LastIndexOf(':') + 1)..]);
            Assert.False(tag is "" or "latest", image);
            if (name.StartsWith("fastdraft", StringComparison.Ordinal))
            {
                Assert.Equal(version, tag);
                Assert.Contains(name, built);
            }
        });
        Assert.Subset(images.Select(i => i.Split(':')[0]).ToHashSet(StringComparer.Ordinal), built.ToHashSet(StringComparer.Ordinal));
        Assert.All(ComposeFiles.SelectMany(f => Services(f).Where(s => s["build"] is not null).Select(s => Path.GetFullPath(Path.Join(
            Executable.Repository, Path.GetDirectoryName(f), (string?)s["build"]!["context"], (string?)s["build"]!["dockerfile"])))), dockerfile => Assert.True(File.Exists(dockerfile), dockerfile));
    }

    [Fact]
    public void No_secret_stands_in_a_file()
    {
        Assert.DoesNotContain(Manifests(), o => o is V1Secret);
        Assert.All(Pods().SelectMany(p => p.Spec.Containers).SelectMany(c => c.Env ?? []), e => Assert.False(IsSecret(e.Name), e.Name));
        Assert.All(Manifests().OfType<V1ConfigMap>().SelectMany(c => c.Data), d => Assert.False(IsSecret(d.Key), d.Key));
        Assert.All(ComposeFiles.SelectMany(Services).SelectMany(s => s["environment"]?.AsObject().ToList() ?? []).Where(e => IsSecret(e.Key)), e => Assert.Matches(@"\$\{[A-Z0-9_]+:\?[^}]*\}|^/run/secrets/", (string)e.Value!));
        Assert.Contains("infra/docker/secrets/", Text(".gitignore"), StringComparison.Ordinal);
        Assert.Contains("infra/docker/secrets", Text(".dockerignore"), StringComparison.Ordinal);
    }

    [Fact]
    public void Units_of_systemd_are_hardened_and_name_no_other_program()
    {
        Assert.Equal(2, Units().Count);
        Assert.All(Units(), unit =>
        {
            Assert.Equal("/opt/fastdraft/fastdraft", unit["ExecStart"].Split(' ')[0]);
            Assert.Equal("fastdraft", unit["User"]);
            Assert.Equal("yes", unit["NoNewPrivileges"]);
            Assert.Equal("strict", unit["ProtectSystem"]);
            Assert.Equal("", unit["CapabilityBoundingSet"]);

            // A host ends its workers itself, after their checkpoint; compiling at run time needs pages that are written and run.
            Assert.Equal("mixed", unit["KillMode"]);
            Assert.DoesNotContain("MemoryDenyWriteExecute", unit.Keys);
            Assert.Equal($"{Core.Stages.ExitCode.Config}", unit["RestartPreventExitStatus"]);
        });
    }

    [Fact]
    public void Alerts_and_the_dashboard_ask_for_figures_that_the_service_has_with_labels_that_they_have()
    {
        var service = string.Concat(Files("src/FastDraft.Server/Telemetry").Select(Text));
        var figures = FigureNames().Matches(service).Select(m => m.Value).ToHashSet(StringComparer.Ordinal);
        var labels = LabelNames().Matches(service).Select(m => m.Groups[1].Value).Append("job").ToHashSet(StringComparer.Ordinal);
        Assert.InRange(figures.Count, 10, 100);

        var alerts = Document("infra/prometheus/alerts.yml")["groups"]!.AsArray().SelectMany(g => g!["rules"]!.AsArray()).Select(r => (string)r!["expr"]!).ToList();
        var panels = JsonNode.Parse(Text("infra/grafana/dashboards/fastdraft.json"))!["panels"]!.AsArray().Where(p => p!["targets"] is not null).SelectMany(p => p!["targets"]!.AsArray()).Select(t => (string)t!["expr"]!).ToList();
        Assert.All(alerts.Concat(panels), expression =>
        {
            Assert.Subset(figures, FigureNames().Matches(expression).Select(m => Suffixes().Replace(m.Value, string.Empty)).ToHashSet(StringComparer.Ordinal));
            Assert.Subset(labels, Matchers().Matches(expression).Select(m => m.Groups[1].Value).Concat(Groupings().Matches(expression).Select(m => m.Groups[1].Value)).ToHashSet(StringComparer.Ordinal));
            Assert.All(Matchers().Matches(expression).Where(m => m.Groups[1].Value is "state" or "outcome"), m => Assert.True(
                Enum.TryParse<Core.Runs.RunState>(m.Groups[2].Value, ignoreCase: true, out _) || Enum.TryParse<Core.Runs.StageRunState>(m.Groups[2].Value, ignoreCase: true, out _), m.Value));
        });

        // The dashboard shows all that there is, and the page of an operator explains each alert.
        Assert.Equal(figures.Order(StringComparer.Ordinal), panels.SelectMany(e => FigureNames().Matches(e).Select(m => Suffixes().Replace(m.Value, string.Empty))).Distinct().Order(StringComparer.Ordinal));
        Assert.All(Document("infra/prometheus/alerts.yml")["groups"]![0]!["rules"]!.AsArray(), r => Assert.Contains($"| `{(string)r!["alert"]!}` |", Text("docs/how-to/deploy.md"), StringComparison.Ordinal));
        Assert.Equal(Persistence.Security.Role.Viewer, AccessTable.Least["GET " + (string)Document("infra/prometheus/prometheus.yml")["scrape_configs"]![0]!["metrics_path"]!]);
    }

    [Fact]
    public async Task Alerts_fire_when_they_should_says_promtool()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/promtool"), "SKIPPED: promtool is not installed (Debian's package prometheus)");
        var folder = Path.Join(Executable.Repository, "infra", "prometheus");
        foreach (var arguments in (string[][])[["check", "config", "--syntax-only", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]])
        {
            using var process = Process.Start(new ProcessStartInfo("/usr/bin/promtool", arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true })!;
            var (output, error) = (process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.True(process.ExitCode == 0, await output + await error);
        }
    }

    private static bool IsSecret(string name) => SecretNames().IsMatch(name);

    /// <summary>Objects of infra/k8s as Kubernetes' own types read them; a field that they do not have is an error.</summary>
    private static IEnumerable<object> Manifests() => Files("infra/k8s").Where(f => Path.GetFileName(f) is not ("kustomization.yaml" or "pytorchjob-gaudi.yaml")).SelectMany(f => KubernetesYaml.LoadAllFromString(Text(f), null, strict: true));

    /// <summary>The pods of the PyTorchJob, whose own type Kubernetes does not have.</summary>
    private static List<V1PodTemplateSpec> Trainings() =>
        [.. Document("infra/k8s/pytorchjob-gaudi.yaml")["spec"]!["pytorchReplicaSpecs"]!.AsObject().Select(r => KubernetesYaml.Deserialize<V1PodTemplateSpec>(r.Value!["template"]!.ToJsonString(), strict: true))];

    private static IEnumerable<(string Namespace, V1PodTemplateSpec Template)> Workloads() =>
        Manifests().OfType<V1StatefulSet>().Select(s => (s.Metadata.NamespaceProperty, s.Spec.Template))
            .Concat(Trainings().Select(t => ((string)Document("infra/k8s/pytorchjob-gaudi.yaml")["metadata"]!["namespace"]!, t)));

    private static IEnumerable<V1PodTemplateSpec> Pods() => Workloads().Select(w => w.Template);

    private static IEnumerable<JsonNode> Services(string compose) => Document(compose)["services"]!.AsObject().Select(s => s.Value!);

    private static string Image(JsonNode service) => (string)service["image"]!;

    private static string[] Strings(JsonNode? list) => list is null ? [] : [.. list.AsArray().Select(i => (string)i!)];

    private static List<Dictionary<string, string>> Units() =>
        [.. Files("infra/systemd").Select(f => Text(f).Split('\n').Where(l => !l.StartsWith('#') && l.Contains('=', StringComparison.Ordinal)).Select(l => l.Split('=', 2)).DistinctBy(p => p[0]).ToDictionary(p => p[0], p => p[1], StringComparer.Ordinal))];

    /// <summary>A file of one YAML document, anchors and merges resolved, as JSON.</summary>
    private static JsonNode Document(string file)
    {
        var value = new DeserializerBuilder().WithAttemptingUnquotedStringTypeDeserialization().Build().Deserialize(new MergingParser(new Parser(new StringReader(Text(file)))));
        return JsonNode.Parse(new SerializerBuilder().JsonCompatible().Build().Serialize(value!))!;
    }

    private static IEnumerable<string> Files(string folder) =>
        Directory.EnumerateFiles(Path.Join(Executable.Repository, folder), "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Executable.Repository, f)).Where(f => !f.StartsWith("infra/docker/secrets/", StringComparison.Ordinal)).Order(StringComparer.Ordinal);

    private static string Text(string file) => File.ReadAllText(Path.Join(Executable.Repository, file));

    [GeneratedRegex("fastdraft_[a-z_]+[a-z]")]
    private static partial Regex FigureNames();

    [GeneratedRegex("_(bucket|sum|count)$")]
    private static partial Regex Suffixes();

    [GeneratedRegex(@"\(""([a-z]+)"", ")]
    private static partial Regex LabelNames();

    [GeneratedRegex(@"[{,]([a-z]+)=~?""([^""]*)""")]
    private static partial Regex Matchers();

    [GeneratedRegex(@"by \(([a-z]+)\)")]
    private static partial Regex Groupings();

    [GeneratedRegex(@"^CMD (\[.*\])$", RegexOptions.Multiline)]
    private static partial Regex DefaultArguments();

    [GeneratedRegex(@"/dev/tcp/127\.0\.0\.1/(\d+).*GET (\S+) HTTP")]
    private static partial Regex Asked();

    [GeneratedRegex(@"docker build [^\n]*-t (\S+)")]
    private static partial Regex Builds();

    [GeneratedRegex("PASSWORD|SECRET|TOKEN|ACCESS_KEY|FASTDRAFT_DATABASE")]
    private static partial Regex SecretNames();
}
