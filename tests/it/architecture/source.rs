//! Rust sources as the rules see them: which paths a file names, and how long its functions are.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use syn::visit::{self, Visit};

/// An absolute path: `crate`, then modules and an item; or a crate's name first.
pub(super) type Name = Vec<String>;

/// One source file without its `#[cfg(test)]` items.
pub(super) struct Source {
    /// Modules from the crate's root; empty for `lib.rs` and `main.rs`.
    pub module: Vec<String>,
    pub lines: usize,
    /// Modules that the file declares with `mod name;`.
    pub children: BTreeSet<String>,
    /// Every path that the file names, with aliases and `super` resolved.
    pub names: BTreeSet<Name>,
    /// What the file makes public by `pub use`: the new name, and what it stands for.
    pub exports: BTreeMap<String, Name>,
    /// Paths that only `pub use` lines name.
    pub exported: BTreeSet<Name>,
    /// Macros that the file calls, by their last segment.
    pub macros: BTreeSet<String>,
    /// Name and length in lines of every function.
    pub functions: Vec<(String, usize)>,
}

impl Source {
    /// Parses `text`, the file at `path` below the crate's `src`.
    pub fn parse(path: &str, text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let module = module_of(path);
        let mut reader = Reader::new(module.clone());
        reader.visit_file(&file);
        let names = reader.paths.iter().map(|p| reader.resolve(p)).collect();
        Self {
            module,
            lines: text.lines().count(),
            children: reader.children,
            names,
            exports: reader.exports,
            exported: reader.exported,
            macros: reader.macros,
            functions: reader.functions,
        }
    }
}

/// Every `.rs` file below `root`, by its path from there.
pub(super) fn read(root: &Path) -> BTreeMap<String, Source> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, Source>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path
                    .strip_prefix(root)
                    .expect("below")
                    .to_string_lossy()
                    .into_owned();
                let text = std::fs::read_to_string(&path).expect("source");
                found.insert(name.clone(), Source::parse(&name, &text));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found.retain(|path, _| !path.ends_with("tests.rs") && !path.contains("tests/"));
    found
}

/// `a/b/mod.rs` and `a/b.rs` are the module `a::b`.
fn module_of(path: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    match stem {
        "lib" | "main" | "mod" => Vec::new(),
        _ => stem.split('/').map(str::to_owned).collect(),
    }
}

/// Collects what a file names.
struct Reader {
    /// The file's module, and those that are open inside it.
    scope: Vec<String>,
    /// What each name that a `use` brought in stands for.
    aliases: BTreeMap<String, Name>,
    /// Paths as they were written, with the module they stand in.
    paths: BTreeSet<(Vec<String>, Name)>,
    children: BTreeSet<String>,
    exports: BTreeMap<String, Name>,
    exported: BTreeSet<Name>,
    macros: BTreeSet<String>,
    functions: Vec<(String, usize)>,
}

impl Reader {
    fn new(module: Vec<String>) -> Self {
        Self {
            scope: module,
            aliases: BTreeMap::new(),
            paths: BTreeSet::new(),
            children: BTreeSet::new(),
            exports: BTreeMap::new(),
            exported: BTreeSet::new(),
            macros: BTreeSet::new(),
            functions: Vec::new(),
        }
    }

    /// `path` in the module where it was written, as an absolute one.
    fn absolute(&self, scope: &[String], path: &[String]) -> Name {
        let mut base: Vec<String> = scope.to_vec();
        let mut rest = path;
        let relative = matches!(path.first().map(String::as_str), Some("super" | "self"));
        while let Some((first, more)) = rest.split_first() {
            match first.as_str() {
                "super" => drop(base.pop()),
                "self" => {}
                "crate" if rest.len() == path.len() => base.clear(),
                _ if relative || path[0] == "crate" => break,
                // A child module of this file, or a crate.
                name if self.children.contains(name) => break,
                _ => return path.to_vec(),
            }
            rest = more;
        }
        std::iter::once("crate".to_owned())
            .chain(base)
            .chain(rest.iter().cloned())
            .collect()
    }

    fn resolve(&self, (scope, path): &(Vec<String>, Name)) -> Name {
        match self.aliases.get(&path[0]) {
            Some(target) => target.iter().chain(&path[1..]).cloned().collect(),
            None => self.absolute(scope, path),
        }
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &[String], public: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident), public),
            syn::UseTree::Group(group) => {
                group
                    .items
                    .iter()
                    .for_each(|item| self.use_tree(item, prefix, public));
            }
            syn::UseTree::Glob(_) => {
                self.import(None, &[prefix, &["*".to_owned()]].concat(), public);
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.import(prefix.last().cloned(), prefix, public);
            }
            syn::UseTree::Name(name) => {
                self.import(Some(name.ident.to_string()), &with(&name.ident), public);
            }
            syn::UseTree::Rename(rename) => {
                self.import(
                    Some(rename.rename.to_string()),
                    &with(&rename.ident),
                    public,
                );
            }
        }
    }

    fn import(&mut self, alias: Option<String>, path: &[String], public: bool) {
        let target = self.absolute(&self.scope, path);
        if let Some(alias) = alias {
            if public {
                self.exports.insert(alias.clone(), target.clone());
            }
            self.aliases.insert(alias, target.clone());
        }
        if public {
            self.exported.insert(target);
        } else {
            self.paths.insert((Vec::new(), target));
        }
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (start, end) = (signature.fn_token.span, block.brace_token.span.close());
        let lines = end.end().line + 1 - start.start().line;
        self.functions.push((signature.ident.to_string(), lines));
    }

    /// Paths inside a macro's arguments, which the parser does not see.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.path(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.path(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.path(path);
    }

    /// A single segment is a local name, or came by a `use` that was seen.
    fn path(&mut self, path: Name) {
        if path.len() > 1 {
            self.paths.insert((self.scope.clone(), path));
        }
    }
}

/// Whether an item exists only for tests.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("test")
            || a.path().is_ident("cfg")
                && a.parse_args::<syn::Path>()
                    .is_ok_and(|p| p.is_ident("test"))
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(i) => &i.attrs,
        syn::Item::Enum(i) => &i.attrs,
        syn::Item::Fn(i) => &i.attrs,
        syn::Item::Impl(i) => &i.attrs,
        syn::Item::Macro(i) => &i.attrs,
        syn::Item::Mod(i) => &i.attrs,
        syn::Item::Static(i) => &i.attrs,
        syn::Item::Struct(i) => &i.attrs,
        syn::Item::Trait(i) => &i.attrs,
        syn::Item::Type(i) => &i.attrs,
        syn::Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_file(&mut self, file: &'ast syn::File) {
        // Which names are modules decides what a path means, wherever it stands.
        let declared = file.items.iter().filter_map(|item| match item {
            syn::Item::Mod(m) if m.content.is_none() && !is_test(&m.attrs) => Some(&m.ident),
            _ => None,
        });
        self.children = declared.map(ToString::to_string).collect();
        visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() {
            self.scope.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.scope.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        self.use_tree(&item.tree, &[], public);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            self.function(&function.sig, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.path(path.segments.iter().map(|s| s.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        if let Some(last) = called.path.segments.last() {
            self.macros.insert(last.ident.to_string());
        }
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}
