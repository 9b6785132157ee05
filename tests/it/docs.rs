//! Every command that README and the documentation show, run as a reader would, with what it
//! prints compared.
//!
//! In a `console` block a line that begins with `$ ` is a command (a `\` at its end continues it),
//! and the lines below it are its output; a command without lines below it only has to succeed. A
//! `toml` block whose first line is a comment with a file's name is written to that file before the
//! commands that follow.
//!
//! Each page has one shell in one folder of its own, with `models` and `config` of the clone in it,
//! `constancy` first in PATH, and HOME next to it. A page that shows one of mosquitto's clients
//! gets a broker, like a reader whose mosquitto runs as a service; for other pages nothing listens.
//! `localhost:1883` stands for its port.
//!
//! In the output, `…` alone on a line stands for any lines, and within a line for any text. Widths
//! of spaces do not count. Words are exact. Numbers are compared by [`compare::close`], since
//! machines differ in instruction sets and speed. A command fails exactly if its output shows a line
//! that begins with `error:`.

mod compare;
mod shell;

use shell::Shell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A command that a test cannot run: it needs root, a camera, or an hour. CI runs the same by `file`,
/// which has `phrase`.
struct Elsewhere {
    command: &'static str,
    file: &'static str,
    phrase: &'static str,
}

const fn elsewhere(command: &'static str, file: &'static str, phrase: &'static str) -> Elsewhere {
    Elsewhere {
        command,
        file,
        phrase,
    }
}

const ELSEWHERE: &[Elsewhere] = &[
    elsewhere(
        "make demo",
        "tests/it/pocket/demo.rs",
        "fn the_demo_ends_by_itself",
    ),
    elsewhere("make test", ".ci/run", "make test\n"),
    elsewhere(
        "make deb TARGET=aarch64 GPU=none",
        "Makefile",
        "TARGET=aarch64 GPU=none packaging/deb.sh",
    ),
    elsewhere(
        "sudo apt install ./constancy_0.1.0_arm64.deb",
        "board/package.py",
        "/usr/bin/dpkg --install /{PACKAGE}",
    ),
    elsewhere(
        "journalctl -u constancy -f",
        "board/daemon.py",
        "journalctl -u constancy",
    ),
    elsewhere(
        "sudo apt-get install build-essential libclang-dev",
        "tools/setup.sh",
        "need libclang-dev ",
    ),
    elsewhere(
        "cargo build --release --locked",
        "Makefile",
        "cargo build --release --locked",
    ),
    elsewhere(
        "sudo apt-get install mosquitto mosquitto-clients",
        "tools/setup.sh",
        "need mosquitto-clients ",
    ),
    elsewhere(
        "constancy camera list",
        "board/cameras.py",
        "(\"list\", \"/dev/video0\")",
    ),
    elsewhere(
        "constancy run --config belt.toml",
        "board/daemon.py",
        "systemctl start constancy",
    ),
];

/// Pages that run side by side: renders take one core, embeddings all.
const WORKERS: usize = 2;

#[test]
fn what_the_pages_show_happens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages(root);
    let next = AtomicUsize::new(0);
    let worker = || -> Vec<Outcome> {
        let taken = || pages.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(taken)
            .map(|page| outcome(page, root))
            .collect()
    };
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("a page's test"))
            .collect()
    });
    let mut failures: Vec<String> = ELSEWHERE
        .iter()
        .filter_map(|e| e.missing_in(root))
        .collect();
    let shown: Vec<&str> = outcomes
        .iter()
        .flat_map(|o| o.elsewhere.iter().copied())
        .collect();
    let unused = ELSEWHERE.iter().filter(|e| !shown.contains(&e.command));
    failures.extend(unused.map(|e| format!("no page shows `{}`: take it off the list", e.command)));
    failures.extend(outcomes.into_iter().flat_map(|o| o.failures));
    assert!(
        failures.is_empty(),
        "{} failures\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

/// The result for one page: which commands of the list it shows, and what went wrong.
struct Outcome {
    elsewhere: Vec<&'static str>,
    failures: Vec<String>,
}

fn outcome(page: &Path, root: &Path) -> Outcome {
    let name = page.strip_prefix(root).expect("below the root").display();
    let begun = Instant::now();
    let (steps, mut failures) = parse(&fs::read_to_string(page).expect("a page"));
    failures.extend(run_page(&steps, root));
    println!(
        "{name}: {} steps in {:.1} s",
        steps.len(),
        begun.elapsed().as_secs_f64()
    );
    Outcome {
        elsewhere: steps
            .iter()
            .filter_map(Step::elsewhere)
            .map(|e| e.command)
            .collect(),
        failures: failures
            .iter()
            .map(|failure| format!("{name}:{failure}"))
            .collect(),
    }
}

impl Elsewhere {
    fn missing_in(&self, root: &Path) -> Option<String> {
        let text = fs::read_to_string(root.join(self.file)).unwrap_or_default();
        let Self {
            command,
            file,
            phrase,
        } = self;
        let missing = !text.contains(phrase);
        missing.then(|| format!("`{command}`: {file} does not contain {phrase:?}"))
    }
}

/// README, the pages of `docs/`, and the shipped model's card.
fn pages(root: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(root.join("docs")).expect("docs/");
    let mut docs: Vec<PathBuf> = folder.map(|entry| entry.expect("docs/").path()).collect();
    docs.retain(|path| path.extension().is_some_and(|e| e == "md"));
    docs.sort();
    docs.insert(0, root.join("README.md"));
    docs.push(root.join("models/pocket/MODEL_CARD.md"));
    docs
}

/// What a page asks for, with the number of its first line.
enum Step {
    File {
        name: String,
        text: String,
    },
    Run {
        line: usize,
        command: String,
        output: Vec<String>,
    },
}

impl Step {
    fn elsewhere(&self) -> Option<&'static Elsewhere> {
        let Self::Run { command, .. } = self else {
            return None;
        };
        let bare = command.split("  #").next().unwrap_or_default().trim_end();
        ELSEWHERE.iter().find(|e| e.command == bare)
    }
}

/// The page's steps, and what is wrong with its blocks.
fn parse(page: &str) -> (Vec<Step>, Vec<String>) {
    let (mut steps, mut faults) = (Vec::new(), Vec::new());
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| line.trim() != "```")
            .collect();
        match language {
            "console" if line.starts_with(' ') => {
                faults.push(format!("{}: an indented console block", at + 1));
            }
            "console" => steps.extend(commands(at + 2, &block)),
            "toml" => steps.extend(file(&block)),
            "sh" | "bash" | "shell" => {
                faults.push(format!("{}: commands belong into a console block", at + 1));
            }
            _ if block.iter().any(|line| line.starts_with("$ ")) => {
                faults.push(format!("{}: a command outside of a console block", at + 1));
            }
            _ => {}
        }
    }
    (steps, faults)
}

/// A block that begins with `# NAME.toml`.
fn file(block: &[&str]) -> Option<Step> {
    let name = block.first()?.strip_prefix("# ")?.trim();
    let named = Path::new(name).extension().is_some_and(|e| e == "toml") && !name.contains(' ');
    named.then(|| Step::File {
        name: name.into(),
        text: block.join("\n") + "\n",
    })
}

fn commands(first: usize, block: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut continued = false;
    for (line, text) in (first..).zip(block) {
        match steps.last_mut() {
            Some(Step::Run { command, .. }) if continued => *command += &format!("\n{text}"),
            _ if text.starts_with("$ ") => {
                steps.push(Step::Run {
                    line,
                    command: text[2..].into(),
                    output: Vec::new(),
                });
            }
            Some(Step::Run { output, .. }) => {
                output.push((*text).into());
                continue;
            }
            _ => continue,
        }
        continued = text.ends_with('\\');
    }
    steps
}

/// Runs a page in a shell of its own; returns what differs, by line.
fn run_page(steps: &[Step], root: &Path) -> Vec<String> {
    let here = |step: &Step| matches!(step, Step::Run { .. }) && step.elsewhere().is_none();
    if !steps.iter().any(here) {
        return Vec::new();
    }
    let mut shell = Shell::start(root);
    if steps
        .iter()
        .any(|s| matches!(s, Step::Run { command, .. } if command.contains("mosquitto_")))
    {
        shell.start_broker();
    }
    let mut failures = Vec::new();
    for step in steps {
        match step {
            Step::File { name, text } => shell.write(name, text),
            Step::Run {
                line,
                command,
                output,
            } if step.elsewhere().is_none() => {
                if let Err(failure) = shell.run(command, output) {
                    failures.push(format!("{line}: `{command}`\n{failure}"));
                }
            }
            Step::Run { .. } => {}
        }
    }
    failures
}

#[test]
fn a_page_is_read_as_a_reader_does() {
    let page =
        "```toml\n# a.toml\nx = 1\n```\n```console\n$ one \\\n    two\nits output\n$ three\n```\n";
    let (steps, faults) = parse(page);
    assert!(faults.is_empty() && steps.len() == 3);
    assert!(matches!(&steps[0], Step::File { name, .. } if name == "a.toml"));
    let Step::Run {
        line,
        command,
        output,
    } = &steps[1]
    else {
        panic!("a command")
    };
    assert_eq!(
        (*line, command.as_str(), output.len()),
        (6, "one \\\n    two", 1)
    );
    assert_eq!(
        parse("```sh\nls\n```\n").1.len() + parse("```\n$ ls\n```\n").1.len(),
        2
    );
}
