//! The report on real workloads, in a namespace of the test's own. Needs root and no filter of our own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod namespace;
mod sarif;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use namespace::Namespace;
use serde_json::Value;
use strait_policy::Policy;
use strait_testkit::skip;
use tempfile::TempDir;

const FORMATS: &[&str] = &["text", "json", "html", "sarif", "oscal", "prometheus"];

/// What must never be in any output.
const PLANTED: &[&str] = &[
    "planted-in-a-variable",
    "planted-in-a-path",
    "planted-in-another-variable",
    "planted-in-an-argument",
    "planted-in-the-docker-config",
    "planted-in-a-key",
    "planted-in-credentials",
    "planted-claim",
    "cGxhbnRlZC1zaWduYXR1cmU",
];

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    })
}

/// The workload of this key.
fn workload<'v>(report: &'v Value, key: &str) -> &'v Value {
    let workloads = report["workloads"].as_array().unwrap();
    workloads.iter().find(|one| one["key"] == key).unwrap_or_else(|| {
        let keys: Vec<&Value> = workloads.iter().map(|one| &one["key"]).collect();
        panic!("{key} is not among {keys:?}")
    })
}

/// A victim's key in reports.
fn victims(user: u32) -> String {
    let program = fs::canonicalize(strait_testkit::victim::program()).unwrap();
    format!("processes/{user}{}", program.display())
}

#[test]
fn secrets_are_found_and_their_values_are_in_no_output() {
    let Some(namespace) = Namespace::new("secrets_are_found") else { return };
    let dir = TempDir::new().unwrap();
    let home = dir.path().to_str().unwrap();
    for (file, content) in [
        (".docker/config.json", "{\"auths\":{\"r\":{\"auth\":\"planted-in-the-docker-config\"}}}"),
        (".aws/credentials", "[default]\naws_secret_access_key = planted-in-credentials\n"),
        (
            "server.pem",
            "-----BEGIN PRIVATE KEY-----\nplanted-in-a-key\n-----END PRIVATE KEY-----\n",
        ),
    ] {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    // {"alg":"none"} and {"aud":["api"],"exp":4102444800,"sub":"system:serviceaccount:pay:api",
    // "x":"planted-claim"}, with a signature.
    let token = "eyJhbGciOiJub25lIn0.\
                 eyJhdWQiOlsiYXBpIl0sImV4cCI6NDEwMjQ0NDgwMCwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50\
                 OnBheTphcGkiLCJ4IjoicGxhbnRlZC1jbGFpbSJ9.cGxhbnRlZC1zaWduYXR1cmU";
    let mounted = "/run/secrets/kubernetes.io/serviceaccount";
    let mount = format!(
        "mkdir -p /run/secrets && mount -t tmpfs none /run/secrets && mkdir -p {mounted} && \
         mount -t tmpfs none {mounted} && printf %s {token} > {mounted}/token"
    );
    assert!(namespace.run(&["sh", "-c", &mount]).status.success());
    // The shell stays, and holds the key open; its command line has a secret too.
    let script = format!("exec 3< {home}/server.pem; sleep 1000 & wait; : planted-in-an-argument");
    let wanted = [
        "env".to_owned(),
        "DB_PASSWORD=planted-in-a-variable".to_owned(),
        "KUBECONFIG=planted-in-a-path".to_owned(),
        "COLOUR=planted-in-another-variable".to_owned(),
        "GCE_METADATA_HOST=planted-in-a-variable".to_owned(),
        format!("HOME={home}"),
        "bash".to_owned(),
        "-c".to_owned(),
        script,
    ];
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let _holder = namespace.start(&wanted);
    let found = (0..500).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let report = json(&namespace.strait(&["report", "--format", "json"]));
        let bash =
            report["workloads"].as_array()?.iter().find(|one| one["name"] == "bash")?.clone();
        let evidence = bash["identity"]["evidence"].to_string();
        evidence.contains("server.pem").then_some((report, bash))
    });
    let (report, bash) = found.expect("the holder is in the report");
    assert_eq!(report["apiVersion"], "strait.dev/v1alpha1");
    let evidence = bash["identity"]["evidence"].as_array().unwrap();
    let has = |kind: &str, what: &str| {
        evidence
            .iter()
            .any(|one| one["kind"] == kind && one["what"].as_str().unwrap().ends_with(what))
    };
    assert!(has("secret-variable", "$DB_PASSWORD"), "{evidence:#?}");
    assert!(has("kubeconfig", "$KUBECONFIG"), "{evidence:#?}");
    assert!(has("metadata-variable", "$GCE_METADATA_HOST"), "{evidence:#?}");
    assert!(has("docker-config", ".docker/config.json"), "{evidence:#?}");
    assert!(has("cloud-credentials", ".aws/credentials"), "{evidence:#?}");
    assert!(has("private-key", "server.pem"), "{evidence:#?}");
    assert!(has("service-account-token", "serviceaccount/token"), "{evidence:#?}");
    let token = evidence.iter().find(|one| one["token"].is_object()).unwrap();
    assert_eq!(token["token"]["audience"][0], "api");
    assert_eq!(token["token"]["expires"], 4_102_444_800_i64);
    assert_eq!(token["token"]["expired"], false);
    assert_eq!(bash["identity"]["account"], "system:serviceaccount:pay:api");
    // Many secrets and nothing around them: it stands first.
    assert_eq!(report["workloads"][0]["name"], "bash");
    assert!(bash["risk"].as_u64().unwrap() >= 60, "{}", bash["risk"]);

    for format in FORMATS {
        let output = namespace.strait(&["report", "--format", format]);
        assert_eq!(output.status.code(), Some(0), "{format}");
        let all = format!("{}{}", text(&output), String::from_utf8_lossy(&output.stderr));
        assert!(all.len() > 500, "{format}");
        for planted in PLANTED {
            assert!(!all.contains(planted), "{planted} is in the report as {format}");
        }
    }
    for arguments in [&["inspect", "--all", "--json"][..], &["inspect", "--all", "--calls"]] {
        let all = text(&namespace.strait(arguments));
        assert!(PLANTED.iter().all(|planted| !all.contains(planted)), "{arguments:?}");
    }
}

const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: strait-victim}
spec:
  identity: {name: victim, owner: team-victims}
  architectures: [x86_64]
  default: allow
  rules:
    - {syscalls: [mount, umount2, init_module, finit_module, create_module], action: errno(EPERM)}
";

#[test]
fn drift_excess_owner_gates_and_baseline() {
    let Some(namespace) = Namespace::new("drift_excess_owner") else { return };
    let dir = TempDir::new().unwrap();
    let policies = dir.path().join("policies");
    fs::create_dir(&policies).unwrap();
    let policy = policies.join("victim.yaml");
    fs::write(&policy, POLICY).unwrap();
    fs::write(policies.join("notes.txt"), "not a policy").unwrap();
    let (policies, policy) = (policies.to_str().unwrap(), policy.to_str().unwrap());
    let strait = env!("CARGO_BIN_EXE_strait");
    let key = victims(0);

    let confined = namespace.victim(&[strait, "run", "--policy", policy, "--"], "threads 2");
    let first = namespace.strait(&["report", "--json", "--policies", policies]);
    let before = dir.path().join("before.json");
    fs::write(&before, &first.stdout).unwrap();
    let report = json(&first);
    let found = workload(&report, &key);
    assert_eq!(
        (&found["owner"], &found["drift"]["state"]),
        (&"team-victims".into(), &"holds".into())
    );
    assert_eq!(found["confinement"]["status"], "filtered");
    assert_eq!(found["excess"]["state"], "known");
    assert_eq!(found["excess"]["calls"], serde_json::json!([]));
    let outcome = |found: &Value, id: &str| {
        let checks = found["checks"].as_array().unwrap().iter();
        checks.clone().find(|check| check["id"] == id).unwrap()["outcome"].clone()
    };
    for (check, expected) in [
        ("filtered", "satisfied"),
        ("as-intended", "satisfied"),
        ("least-privilege", "satisfied"),
        ("no-new-privileges", "satisfied"),
        ("closed-modules", "satisfied"),
        ("closed-escape", "not-satisfied"),
        ("closed-ptrace", "not-satisfied"),
    ] {
        assert_eq!(outcome(found, check), expected, "{check}");
    }
    // What the kernel holds has the score of the policy.
    let score = json(&namespace.strait(&["score", policy, "--json"]));
    let rounded = format!("{:.0}", score["score"].as_f64().unwrap());
    assert_eq!(found["exposure"]["score"].to_string(), rounded);
    let gate = |what: &str| {
        let arguments = ["report", "--policies", policies, "--fail-on", what];
        let output = namespace.strait(&arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(gate("drift").0, Some(0));
    let before = before.to_str().unwrap();

    // Another one that is not confined, and a policy that neither is as.
    drop(confined);
    let _plain = namespace.victim(&[], "threads 1");
    let arguments = ["report", "--json", "--policies", policies, "--baseline", before];
    let report = json(&namespace.strait(&arguments));
    let found = workload(&report, &key);
    assert_eq!(found["drift"]["state"], "permits-more");
    let witness = found["drift"]["witness"].as_str().unwrap();
    assert!(witness.contains("policy errno(1), kernel allow"), "{witness}");
    let excess: BTreeSet<&str> = found["excess"]["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call.as_str().unwrap())
        .collect();
    assert!(excess.contains("mount") && !excess.contains("read"), "{excess:?}");
    assert_eq!(outcome(found, "as-intended"), "not-satisfied");
    let changes = report["changes"].as_array().unwrap();
    let change = changes.iter().find(|change| change["key"] == key.as_str()).unwrap();
    assert_eq!(change["what"], "worse");
    let (status, said) = gate("drift,score>20");
    assert_eq!(status, Some(1));
    assert!(said.contains("drift: strait-victim") && said.contains("score>20: "), "{said}");
    let text = text(&namespace.strait(&["report", "--baseline", before]));
    assert!(text.contains("worse: strait-victim"), "{text}");

    // What is no gate, no baseline and no policy is refused.
    assert_eq!(gate("anything").0, Some(2));
    assert_eq!(namespace.strait(&["report", "--baseline", policy]).status.code(), Some(2));
    fs::write(Path::new(policies).join("broken.yaml"), "kind: SyscallPolicy\n").unwrap();
    assert_eq!(gate("drift").0, Some(2));
}

#[test]
fn daemons_and_sandboxes_are_workloads() {
    let Some(namespace) = Namespace::new("daemons_and_sandboxes") else { return };
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut wanted: Vec<String> = Vec::new();
    let mut running = Vec::new();
    if Path::new("/usr/sbin/nginx").exists() {
        let config = format!(
            "pid {0}; error_log {1}; daemon off; worker_processes 2; events {{}}\n\
             http {{ access_log off; server {{ listen unix:{2}; }} }}\n",
            path("nginx.pid"),
            path("nginx.log"),
            path("nginx.sock")
        );
        fs::write(dir.path().join("nginx.conf"), config).unwrap();
        running.push(namespace.start(&["/usr/sbin/nginx", "-c", &path("nginx.conf")]));
        wanted.push("nginx".to_owned());
    } else {
        skip("daemons_and_sandboxes", "nginx is not installed");
    }
    if Path::new("/usr/bin/redis-server").exists() {
        let socket = path("redis.sock");
        running.push(namespace.start(&[
            "redis-server",
            "--port",
            "0",
            "--unixsocket",
            &socket,
            "--save",
            "",
        ]));
        wanted.push("redis-check-rdb".to_owned());
    } else {
        skip("daemons_and_sandboxes", "redis-server is not installed");
    }
    let sandbox = Path::new("/usr/bin/bwrap").exists();
    if sandbox {
        let policy = Policy::parse(POLICY).unwrap();
        let rules = policy.lower().unwrap();
        let program = strait_compiler::compile(&rules, &strait_compiler::Options::default());
        fs::write(dir.path().join("filter.bpf"), program.unwrap().program.to_bytes()).unwrap();
        let script = format!(
            "exec bwrap --unshare-pid --ro-bind / / --proc /proc --seccomp 9 sleep 1000 9< {}",
            path("filter.bpf")
        );
        running.push(namespace.start(&["sh", "-c", &script]));
    } else {
        skip("daemons_and_sandboxes", "bubblewrap is not installed");
    }
    let complete = |report: &Value| {
        let workloads = report["workloads"].as_array().unwrap();
        let has = |name: &str| {
            workloads.iter().any(|one| {
                // redis-server and redis-check-rdb are one program.
                one["name"] == name || one["name"] == "redis-server" && name.starts_with("redis")
            })
        };
        let boxed =
            |one: &&Value| one["kind"] == "container" && one["confinement"]["filtered"] != 0;
        wanted.iter().all(|name| has(name)) && (!sandbox || workloads.iter().any(|one| boxed(&one)))
    };
    let mut last = Value::Null;
    let found = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        last = json(&namespace.strait(&["report", "--json"]));
        complete(&last)
    });
    assert!(found, "{last:#}");
    if wanted.iter().any(|name| name == "nginx") {
        let nginx = last["workloads"].as_array().unwrap().iter().find(|one| one["name"] == "nginx");
        let nginx = nginx.unwrap();
        assert_eq!(nginx["confinement"]["status"], "unconfined");
        assert_eq!(nginx["excess"]["state"], "never-recorded");
        assert!(nginx["identity"]["users"].as_array().unwrap().contains(&"root".into()));
    }
}

#[test]
fn sarif_oscal_and_prometheus_have_what_their_schemas_require() {
    let Some(namespace) = Namespace::new("sarif_oscal_and_prometheus") else { return };
    let _victim = namespace.victim(&[], "threads 1");

    let sarif = json(&namespace.strait(&["report", "--format", "sarif"]));
    assert_eq!(sarif["version"], "2.1.0");
    sarif::is_valid(&sarif);
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(run["tool"]["driver"]["name"], "strait");
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(result["message"]["text"].is_string());
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        let place = &result["locations"][0];
        assert!(place["physicalLocation"]["artifactLocation"]["uri"].is_string());
        assert!(place["logicalLocations"][0]["fullyQualifiedName"].is_string());
    }
    let taxonomies = run["taxonomies"].as_array().unwrap();
    for rule in rules {
        for relationship in rule["relationships"].as_array().unwrap() {
            let target = &relationship["target"];
            let taxonomy =
                taxonomies.iter().find(|one| one["name"] == target["toolComponent"]["name"]);
            let taxa = taxonomy.unwrap()["taxa"].as_array().unwrap();
            assert!(taxa.iter().any(|taxon| taxon["id"] == target["id"]), "{target}");
        }
    }

    let oscal = json(&namespace.strait(&["report", "--format", "oscal"]));
    let results = &oscal["assessment-results"];
    let mut ids: BTreeSet<String> = BTreeSet::new();
    let mut id = |value: &Value| {
        let text =
            value.as_str().unwrap_or_else(|| panic!("an identifier, not {value}")).to_owned();
        let digits = text.split('-').map(str::len).collect::<Vec<_>>();
        assert_eq!(digits, [8, 4, 4, 4, 12], "{text}");
        assert!(text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()));
        assert!(matches!(text.as_bytes()[14], b'4' | b'5'), "{text}");
        assert!(ids.insert(text.clone()), "{text} stands twice");
        text
    };
    id(&results["uuid"]);
    for field in ["title", "last-modified", "version", "oscal-version"] {
        assert!(results["metadata"][field].is_string(), "metadata/{field}");
    }
    assert!(results["import-ap"]["href"].is_string());
    let result = &results["results"][0];
    id(&result["uuid"]);
    for field in ["title", "description", "start"] {
        assert!(result[field].is_string(), "results/{field}");
    }
    let selections = result["reviewed-controls"]["control-selections"].as_array().unwrap();
    let included = selections[0]["include-controls"].as_array().unwrap();
    let is_token = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    assert!(included.iter().all(|one| is_token(one["control-id"].as_str().unwrap())));
    let mut subjects = BTreeSet::new();
    for component in result["local-definitions"]["components"].as_array().unwrap() {
        subjects.insert(id(&component["uuid"]));
        for field in ["type", "title", "description"] {
            assert!(component[field].is_string(), "components/{field}");
        }
        assert_eq!(component["status"]["state"], "operational");
    }
    let mut observed = BTreeSet::new();
    for observation in result["observations"].as_array().unwrap() {
        observed.insert(id(&observation["uuid"]));
        assert_eq!(observation["methods"][0], "TEST");
        assert!(observation["description"].is_string() && observation["collected"].is_string());
        let subject = &observation["subjects"][0];
        assert!(subjects.contains(subject["subject-uuid"].as_str().unwrap()));
        assert!(observation["relevant-evidence"][0]["description"].is_string());
    }
    let findings = result["findings"].as_array().unwrap();
    assert_eq!(findings.len(), included.len());
    for finding in findings {
        id(&finding["uuid"]);
        let target = &finding["target"];
        assert_eq!(target["type"], "objective-id");
        assert!(is_token(target["target-id"].as_str().unwrap()), "{target}");
        let state = target["status"]["state"].as_str().unwrap();
        assert!(["satisfied", "not-satisfied"].contains(&state));
        for related in finding["related-observations"].as_array().unwrap() {
            assert!(observed.contains(related["observation-uuid"].as_str().unwrap()));
        }
    }

    let prometheus = text(&namespace.strait(&["report", "--format", "prometheus"]));
    let mut declared = BTreeSet::new();
    for line in prometheus.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(kind, "gauge");
            assert!(declared.insert(name.to_owned()), "{name} is declared twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(declared.contains(name), "{line}");
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(prometheus.contains("strait_workload_risk{workload=\"processes/0/"), "{prometheus}");
}

#[test]
fn the_page_sorts_and_searches_in_a_browser_without_a_network() {
    let test = "the_page_sorts_and_searches";
    let browsers = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"];
    let Some(browser) = browsers.into_iter().find(|path| Path::new(path).exists()) else {
        return skip(test, "neither chromium-headless-shell nor chromium is installed");
    };
    let Some(namespace) = Namespace::new(test) else { return };
    let _victims = [namespace.victim(&[], "threads 1"), namespace.victim(&[], "filters 1")];
    let page = text(&namespace.strait(&["report", "--format", "html"]));
    // Nothing is fetched: the only addresses are of links that a person may follow.
    for attribute in ["src=", "url(", "@import", "<link", "<iframe", "<img"] {
        assert!(!page.contains(attribute), "{attribute}");
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    let dir = TempDir::new().unwrap();
    // What a person would do, by script, and what came of it.
    let script = "
      const rows = () => [...document.querySelectorAll('#workloads tbody tr')];
      const visible = () => rows().filter((row) => !row.hidden);
      const names = () => rows().map((row) => row.querySelector('summary').textContent);
      const button = (name) => [...document.querySelectorAll('#workloads thead button')]
        .find((one) => one.textContent === name);
      const told = {rows: rows().length};
      button('Workload').focus();
      told.focused = document.activeElement === button('Workload');
      button('Workload').click();
      told.ascending = JSON.stringify(names()) === JSON.stringify([...names()].sort());
      button('Workload').click();
      told.descending = JSON.stringify(names()) === JSON.stringify([...names()].sort().reverse());
      told.aria = button('Workload').parentElement.getAttribute('aria-sort');
      const search = document.getElementById('search');
      search.value = 'strait-victim';
      search.dispatchEvent(new Event('input'));
      told.found = visible().length;
      told.status = document.getElementById('shown').textContent;
      search.value = '';
      search.dispatchEvent(new Event('input'));
      told.all = visible().length;
      document.querySelector('summary').click();
      told.open = document.querySelectorAll('details[open]').length;
      dispatchEvent(new Event('beforeprint'));
      told.printed = document.querySelectorAll('details[open]').length;
      told.focusable = document.querySelectorAll('button, summary, input, a[href]').length > 12;
      document.title = JSON.stringify(told);";
    let driven = page.replace("</body>", &format!("<script>{script}</script></body>"));
    let file = dir.path().join("report.html");
    fs::write(&file, driven).unwrap();
    // Without any network at all: a namespace that has not even a loopback device up.
    let output = Command::new("unshare")
        .args(["--net", browser, "--no-sandbox", "--headless", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .env("HOME", dir.path())
        .output()
        .unwrap();
    let dom = text(&output);
    let Some(title) = dom.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next())
    else {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    };
    let title = title.replace("&quot;", "\"").replace("&amp;", "&");
    let told: Value = serde_json::from_str(&title).unwrap_or_else(|_| {
        panic!("{title}: {}", String::from_utf8_lossy(&output.stderr));
    });
    for what in ["focused", "ascending", "descending", "focusable"] {
        assert_eq!(told[what], true, "{what}: {told}");
    }
    assert_eq!(told["aria"], "descending");
    assert_eq!(told["found"], 1, "{told}");
    assert_eq!(told["all"], told["rows"]);
    assert_eq!((&told["open"], &told["printed"]), (&1.into(), &told["rows"]));
    assert!(told["status"].as_str().unwrap().starts_with("1 of "));
}

/// Read by the models of compliance-trestle, which are made from NIST's schema and take no field that
/// it does not have.
#[test]
fn oscal_is_valid_by_models_made_from_its_schema() {
    let test = "oscal_is_valid_by_models_made_from_its_schema";
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/trestle");
    if !models.join("trestle").exists() {
        return skip(
            test,
            "compliance-trestle is not in target/trestle: cargo xtask test puts it there",
        );
    }
    let Some(namespace) = Namespace::new(test) else { return };
    let _victim = namespace.victim(&[], "threads 1");
    let dir = TempDir::new().unwrap();
    let valid = |oscal: &Value| {
        let file = dir.path().join("results.json");
        fs::write(&file, oscal.to_string()).unwrap();
        let script = "import json, sys\n\
            from trestle.oscal.assessment_results import AssessmentResults\n\
            results = json.load(open(sys.argv[1]))['assessment-results']\n\
            print(len(AssessmentResults.parse_obj(results).results[0].findings))";
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &models).args(["-c", script]).arg(&file).output().unwrap()
    };
    let mut oscal = json(&namespace.strait(&["report", "--format", "oscal"]));
    let output = valid(&oscal);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let findings = oscal["assessment-results"]["results"][0]["findings"].as_array().unwrap().len();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), findings.to_string());
    // And they can refuse.
    oscal["assessment-results"]["results"][0]["findings"][0]["of-no-schema"] = 1.into();
    let output = valid(&oscal);
    assert!(String::from_utf8_lossy(&output.stderr).contains("of-no-schema"));
}
