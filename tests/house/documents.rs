//! The project's documents, and what they name.

use std::path::Path;

/// A document.
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What a document names in backticks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// A file or folder of the project.
    File(String),
    /// A function in a file.
    Function(String, String),
}

/// README.md, CONTRIBUTING.md and all of `docs`.
pub(crate) fn documents(root: &Path) -> Vec<Document> {
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let mut names: Vec<String> =
        docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap())).collect();
    names.extend(["README.md".to_owned(), "CONTRIBUTING.md".to_owned()]);
    names.sort();
    let read = |name: String| Document { text: std::fs::read_to_string(root.join(&name)).unwrap(), name };
    names.into_iter().filter(|name| name.ends_with(".md")).map(read).collect()
}

/// Everything that stands in backticks on one line.
pub(crate) fn quoted(line: &str) -> Vec<String> {
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

impl Document {
    /// What stands in backticks and looks like a path.
    pub(crate) fn references(&self) -> Vec<Reference> {
        let mut code_block = false;
        let mut references = Vec::new();
        for line in self.text.lines() {
            if line.starts_with("```") {
                code_block = !code_block;
            } else if !code_block {
                references.extend(quoted(line).iter().filter_map(|text| reference(text)));
            }
        }
        references
    }

    /// The cells of all rows of tables.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        self.text.lines().filter(|line| line.starts_with('|')).map(cells).collect()
    }
}

fn reference(text: &str) -> Option<Reference> {
    let is_path = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if let Some((path, function)) = text.split_once(".rs:")
        && is_path(path)
    {
        return Some(Reference::Function(format!("{path}.rs"), function.to_owned()));
    }
    let file = [".rs", ".md", ".js", ".toml"].iter().any(|end| text.ends_with(end));
    (is_path(text) && (file || text.ends_with('/')) && !text.starts_with('.') && !text.starts_with('/'))
        .then(|| Reference::File(text.trim_end_matches('/').to_owned()))
}

#[test]
fn references_are_told_from_other_code() {
    assert_eq!(reference("a/b.rs:go"), Some(Reference::Function("a/b.rs".to_owned(), "go".to_owned())));
    assert_eq!(reference("a/b.rs"), Some(Reference::File("a/b.rs".to_owned())));
    assert_eq!(reference("client/"), Some(Reference::File("client".to_owned())));
    for text in ["make test", "=u:<user>", "/v1/ws", "hash(room) mod P", "x.y", ".rs"] {
        assert_eq!(reference(text), None, "{text}");
    }
}
