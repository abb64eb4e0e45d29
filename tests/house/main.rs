//! The house rules that a compiler does not know: what the documents name exists, and one name is one type.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod documents;
mod source;

use std::collections::BTreeMap;

use documents::{Reference, documents};
use source::Source;

/// Every `path.rs:function`, file and folder that a document names is there.
#[test]
fn documents_name_files_and_functions_that_exist() {
    let source = Source::read();
    let mut wrong = Vec::new();
    let mut functions = 0;
    for document in documents(&source.root) {
        for reference in document.references() {
            match reference {
                Reference::File(path) if source.find(&path).is_none() => {
                    wrong.push(format!("{}: there is no {path}", document.name));
                }
                Reference::Function(path, function) => {
                    functions += 1;
                    let text = source.find(&path).and_then(|path| std::fs::read_to_string(path).ok());
                    if text.is_none_or(|text| !source::defines_function(&text, &function)) {
                        wrong.push(format!("{}: there is no {path}:{function}", document.name));
                    }
                }
                Reference::File(_) => {}
            }
        }
    }
    assert!(functions > 50, "only {functions} functions are named: are the documents read as they should be?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every test and mutant that `promises.md` names is there.
#[test]
fn promises_name_tests_and_mutants_that_exist() {
    let source = Source::read();
    let mutants = std::fs::read_to_string(source.root.join("crates/model/src/faults.rs")).unwrap();
    let promises = documents(&source.root).into_iter().find(|document| document.name.ends_with("promises.md")).unwrap();
    let mut wrong = Vec::new();
    let rows: Vec<Vec<String>> = promises.rows().into_iter().filter(|row| row[0].starts_with('P')).collect();
    assert!(rows.len() > 40, "only {} promises were found", rows.len());
    for row in rows {
        for test in documents::quoted(&row[3]) {
            let found = match (test.split_once("::"), test.split_once(": ")) {
                (Some((module, name)), _) => source.file_defines(&format!("tests/end_to_end/{module}.rs"), name),
                (None, Some((target @ ("chaos" | "database" | "fleet"), name))) => {
                    source.file_defines(&format!("tests/{target}/main.rs"), name)
                }
                (None, Some((folder, name))) => source.crate_defines(folder, name),
                (None, None) => false,
            };
            if !found {
                wrong.push(format!("{}: there is no test {test}", row[0]));
            }
        }
        for mutant in documents::quoted(&row[4]) {
            if !mutants.contains(&format!("    {mutant},\n")) {
                wrong.push(format!("{}: there is no mutant {mutant}", row[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every log line that `CONTRIBUTING.md` explains is one that the program writes.
#[test]
fn log_lines_that_are_explained_are_written() {
    let source = Source::read();
    let documents = documents(&source.root);
    let contributing = documents.iter().find(|document| document.name == "CONTRIBUTING.md").unwrap();
    let (_, section) = contributing.text.split_once("## Log lines").unwrap();
    let (section, _) = section.split_once("## ").unwrap();
    let texts: Vec<String> = source.rust_files().into_iter().map(|(_, text)| text).collect();
    let lines: Vec<String> = section
        .lines()
        .filter_map(|row| documents::quoted(row.strip_prefix("| `").map(|_| row)?).into_iter().next())
        .collect();
    assert!(lines.len() > 15, "only {} log lines were found", lines.len());
    let unknown: Vec<&String> = lines.iter().filter(|line| !texts.iter().any(|text| text.contains(*line))).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// A type that leaves its module has a name that no other type has.
#[test]
fn one_name_is_one_type() {
    let source = Source::read();
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut exported: Vec<String> = Vec::new();
    for (path, text) in source.rust_files() {
        for definition in source::types(&text) {
            if definition.leaves_module {
                exported.push(definition.name.clone());
            }
            places.entry(definition.name).or_default().push(path.clone());
        }
    }
    assert!(exported.len() > 200, "only {} types were found", exported.len());
    let twice = places.iter().filter(|(name, places)| places.len() > 1 && exported.contains(name));
    let twice: Vec<String> = twice.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

/// 120 columns, in code, comments and documents alike; only tables, code blocks and data of tests may be wider.
#[test]
fn lines_are_at_most_120_columns_wide() {
    let source = Source::read();
    let mut wide = Vec::new();
    for (path, text) in source.rust_files() {
        let long = |line: &str| line.chars().count() > 120 && !line.contains("r#\"");
        wide.extend(text.lines().enumerate().filter(|(_, l)| long(l)).map(|(n, _)| format!("{path}:{}", n + 1)));
    }
    for document in documents(&source.root) {
        let mut code_block = false;
        for (n, line) in document.text.lines().enumerate() {
            code_block ^= line.starts_with("```");
            if !code_block && !line.starts_with('|') && line.chars().count() > 120 {
                wide.push(format!("{}:{}", document.name, n + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}
