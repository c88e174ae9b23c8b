//! Makes a Rust module of each chapter of the guide, which `guide.rs` includes.
//!
//! Each block is a module within the one before it and sees all of that. A module has the lines of its chapter, so that
//! the compiler's line numbers are the chapter's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const GUIDE: &str = "../../docs/guide";

fn main() {
    println!("cargo:rerun-if-changed={GUIDE}");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut chapters: Vec<_> = fs::read_dir(GUIDE).unwrap().map(|entry| entry.unwrap().path()).collect();
    chapters.sort();
    let mut modules = String::new();
    for path in chapters.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        println!("cargo:rerun-if-changed={}", path.display());
        let (chapter, made) = module(path);
        let file = out.join(format!("{chapter}.rs"));
        fs::write(&file, made).unwrap();
        writeln!(modules, "#[path = {file:?}]\nmod {};", chapter.replace('-', "_").to_lowercase()).unwrap();
    }
    fs::write(out.join("chapters.rs"), modules).unwrap();
    #[cfg(feature = "peers")]
    grpc::generate(&out);
}

fn module(path: &Path) -> (String, String) {
    let chapter = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (mut made, mut programs) = (String::new(), String::new());
    // The modules around the next block, and which program serves at a port there.
    let (mut around, mut serves) = (Vec::new(), BTreeMap::new());
    // How later blocks refer to the one that is `// bank/src/lib.rs`.
    let mut library = None;
    let mut has_console = false;
    let mut at = 0;
    while at < lines.len() {
        let Some(info) = lines[at].strip_prefix("```") else {
            made.push('\n');
            at += 1;
            continue;
        };
        let length = lines[at + 1..].iter().position(|line| *line == "```").expect("a block has an end");
        let block = &lines[at + 1..at + 1 + length];
        let line = at + 1;
        at += length + 2;
        has_console |= info == "console";
        if info != "rust"
            && info != "rust,peers"
            && info != "rust,etcd"
            && info != "rust,otel"
            && info != "rust,schema"
            && info != "rust,schemars"
            && info != "rust,simulation"
            && info != "rust,tls"
        {
            assert!(
                [
                    "console",
                    "console,auth",
                    "console,cli",
                    "sh",
                    "toml",
                    "json",
                    "text",
                    "yaml",
                    "dockerfile",
                    "nginx",
                    "ini",
                    "haproxy",
                    "python",
                    "proto",
                    "js"
                ]
                .contains(&info),
                "{chapter}.md:{line}: `{info}` is no kind of block that the test knows"
            );
            made.push_str(&"\n".repeat(length + 2));
            continue;
        }
        let name = format!("line_{line}");
        let feature = info.strip_prefix("rust,");
        // `// bank/src/bin/pay.rs`: a file of its own, which no later block sees.
        let (package, file) = block[0].strip_prefix("// ").and_then(|file| file.split_once("src/")).unwrap_or(("", ""));
        let is_alone = feature.is_some() || file.starts_with("bin/");
        if file == "lib.rs" {
            library = Some(format!("use {}::", package.trim_end_matches('/')));
        }
        if let Some(feature) = feature {
            write!(made, "#[cfg(feature = {feature:?})] ").unwrap();
        }
        write!(made, "pub(crate) mod {name} {{ #[allow(unused)] use super::*;").unwrap();
        around.push(name);
        if feature.is_none() && block.iter().any(|code| code.contains("fn main()")) {
            let ports: Vec<u16> = block.iter().filter_map(|code| served(code)).collect();
            serves.extend(ports.iter().map(|port| (*port, line)));
            let within = around.join("::");
            made.push_str(" pub(crate) const MODULE: &str = module_path!();");
            made.push_str(" pub(crate) fn run() -> Result<(), String> { crate::Ended::ended(main()) }");
            writeln!(
                programs,
                "crate::Program {{ line: {line}, file: {file:?}, ports: &{ports:?}, \
                 module: {within}::MODULE, run: {within}::run }},"
            )
            .unwrap();
        }
        made.push('\n');
        for code in block {
            let code = located(code, &chapter, &serves);
            made.push_str(&match &library {
                Some(library) => code.replace(library, "use super::"),
                None => code,
            });
            made.push('\n');
        }
        if is_alone {
            made.push('}');
            around.pop();
        }
        made.push('\n');
    }
    made.push_str(&"}".repeat(around.len()));
    if has_console {
        write!(
            made,
            "\n#[test]\nfn every_command_says_what_the_chapter_shows() {{\n\
             crate::run_commands({chapter:?}, &[\n{programs}]);\n}}\n"
        )
        .unwrap();
    }
    (chapter, made)
}

/// The port that a line serves at.
fn served(code: &str) -> Option<u16> {
    let (before, literal, _) = address(code)?;
    let serves = before.ends_with(".serve(\"") || before.ends_with("TcpListener::bind(\"");
    serves.then(|| port(literal))
}

/// A line whose address is one that the test has chosen.
fn located(code: &str, chapter: &str, serves: &BTreeMap<u16, usize>) -> String {
    match address(code).map(|(before, literal, after)| (before, literal, after, serves.get(&port(literal)))) {
        Some((before, literal, after, Some(line))) => {
            let before = before.strip_suffix('"').expect("a literal has a quote before it");
            let port = port(literal);
            format!("{before}crate::at({chapter:?}, {line}, {port}, \"{literal}\"){}", &after[1..])
        }
        _ => code.to_owned(),
    }
}

/// What is before, in and behind the literal that begins with an address of this machine.
fn address(code: &str) -> Option<(&str, &str, &str)> {
    let hosts = ["\"127.0.0.1:", "\"localhost:", "\"0.0.0.0:"];
    let start = hosts.iter().find_map(|host| code.find(host))? + 1;
    let length = code[start..].find('"')?;
    Some((&code[..start], &code[start..start + length], &code[start + length..]))
}

fn port(literal: &str) -> u16 {
    let port = literal.split(':').nth(1).unwrap_or_default();
    let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
    port[..digits].parse().unwrap_or_else(|_| panic!("`{literal}` has no port"))
}

#[cfg(feature = "peers")]
mod grpc {
    use std::fs;
    use std::path::Path;

    use tonic_build::manual::{Builder, Method, Service};

    /// What tonic makes of `bank.proto`, without protoc.
    pub(super) fn generate(out: &Path) {
        let balance = Method::builder()
            .name("balance")
            .route_name("Balance")
            .input_type("super::BalanceRequest")
            .output_type("super::BalanceReply")
            .codec_path("tonic_prost::ProstCodec")
            .build();
        let service = Service::builder().package("bank").name("Bank").method(balance).build();
        Builder::new().out_dir(out).compile(&[service]);
        let messages = "#[derive(Clone, PartialEq, ::prost::Message)]\n\
             pub struct BalanceRequest { #[prost(uint64, tag = \"1\")] pub account: u64 }\n\
             #[derive(Clone, PartialEq, ::prost::Message)]\n\
             pub struct BalanceReply { #[prost(int64, tag = \"1\")] pub cents: i64 }\n";
        let services = fs::read_to_string(out.join("bank.Bank.rs")).unwrap();
        fs::write(out.join("bank.rs"), format!("{messages}{services}")).unwrap();
    }
}
