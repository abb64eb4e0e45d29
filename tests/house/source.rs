//! The project's sources, read as text.

use std::path::{Path, PathBuf};

/// Where the project is.
pub(crate) struct Source {
    pub(crate) root: PathBuf,
}

/// A type that a file defines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) leaves_module: bool,
}

impl Source {
    pub(crate) fn read() -> Self {
        Self { root: Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned() }
    }

    /// The file or folder that a document means: from the top, or below one of the folders that documents leave out.
    pub(crate) fn find(&self, path: &str) -> Option<PathBuf> {
        let bases = ["", "crates", "docs", "crates/session/src"];
        bases.iter().map(|base| self.root.join(base).join(path)).find(|path| path.exists())
    }

    /// Whether a file of a crate defines this function.
    pub(crate) fn crate_defines(&self, name: &str, function: &str) -> bool {
        let prefix = format!("crates/{name}/");
        self.rust_files().iter().any(|(path, text)| path.starts_with(&prefix) && defines_function(text, function))
    }

    /// Whether a file defines a function of this name.
    pub(crate) fn file_defines(&self, path: &str, function: &str) -> bool {
        std::fs::read_to_string(self.root.join(path)).is_ok_and(|text| defines_function(&text, function))
    }

    /// All Rust files with their texts, by path.
    pub(crate) fn rust_files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for folder in ["crates", "tests"] {
            collect(&self.root.join(folder), &mut files);
        }
        files.sort();
        let name = |path: &Path| path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned();
        files.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Whether a text defines a function of this name.
pub(crate) fn defines_function(text: &str, name: &str) -> bool {
    let defines = |line: &str| {
        let Some((_, rest)) = line.split_once("fn ") else { return false };
        rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', '<']))
    };
    text.lines().any(defines)
}

/// The types that a text defines at the top of a line or in a module of it.
pub(crate) fn types(text: &str) -> Vec<Definition> {
    text.lines().filter_map(definition).collect()
}

fn definition(line: &str) -> Option<Definition> {
    let mut words = line.split_whitespace().peekable();
    let leaves_module = words.next_if(|word| word.starts_with("pub")).is_some();
    matches!(words.next()?, "struct" | "enum" | "trait" | "type").then_some(())?;
    let name: String = words.next()?.chars().take_while(|c| c.is_alphanumeric()).collect();
    // An associated type belongs to its trait.
    let is_associated = line.starts_with(' ') && line.contains(" = ");
    (name.starts_with(char::is_uppercase) && !is_associated).then_some(Definition { name, leaves_module })
}

#[test]
fn functions_and_types_are_found() {
    assert!(defines_function("    pub(crate) async fn go<T>(x: T) {", "go") && !defines_function("fn gone() {", "go"));
    let found = types("pub struct A;\n    enum B {\ntype C = u8;\n    type Item = u8;\nlet x = 1;");
    let names: Vec<_> = found.iter().map(|found| (found.name.as_str(), found.leaves_module)).collect();
    assert_eq!(names, [("A", true), ("B", false), ("C", false)]);
}
