//! Checks the library's sources against the structure in `ARCHITECTURE.md`: levels, circles, names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, File, ImplItem, Item, ItemImpl, ItemMod, ItemUse, Type, UseTree, Visibility};

/// Modules for fuzzing are compiled for tests and fuzz targets only, and look into every other.
const NOT_OF_THE_LIBRARY: &str = "fuzzing";

#[test]
fn a_module_imports_only_from_lower_levels() {
    let levels = levels();
    let sources = Sources::read();
    let mut wrong = BTreeSet::new();
    for (module, imports) in sources.imports() {
        let own = top(&module);
        let Some(level) = own.and_then(|own| levels.get(own)) else {
            // The root re-exports what is public.
            assert!(own.is_none_or(|own| own == NOT_OF_THE_LIBRARY), "{module}: the map in ARCHITECTURE.md lacks it");
            continue;
        };
        for import in imports {
            match top(&import) {
                Some(other) if Some(other) != own && levels.get(other).is_none_or(|other| other >= level) => {
                    wrong.insert(format!("{module} (L{level}) imports {import} (L{:?})", levels.get(other)));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(levels.len() > 20, "the map was read: {levels:?}");
}

#[test]
fn no_two_modules_import_each_other() {
    let imports = Sources::read().imports();
    assert!(imports.len() > 80, "the sources were read: {}", imports.len());
    let reached: BTreeMap<_, _> = imports.keys().map(|module| (module, reached_from(module, &imports))).collect();
    let circles: BTreeSet<Vec<_>> = reached
        .iter()
        .filter(|(module, reached)| reached.contains(**module))
        .map(|(module, others)| others.iter().filter(|other| reached[other].contains(*module)).collect())
        .collect();
    assert!(circles.is_empty(), "the modules of each of these lists import each other: {circles:#?}");
}

#[test]
fn private_methods_stand_in_the_file_of_their_type() {
    let sources = Sources::read();
    let mut wrong = Vec::new();
    for (module, file) in &sources.files {
        for item in &file.items {
            let Item::Impl(ItemImpl { trait_: None, self_ty, attrs, items, .. }) = item else { continue };
            let Type::Path(path) = &**self_ty else { continue };
            // Public ones are for users: the library itself doesn't call them.
            let is_public =
                |item: &ImplItem| matches!(item, ImplItem::Fn(one) if matches!(one.vis, Visibility::Public(_)));
            if is_for_tests(attrs) || items.iter().all(is_public) {
                continue;
            }
            let name = path.path.segments.last().expect("a path has a segment").ident.to_string();
            if !defines(file, &name) {
                wrong.push(format!("{module}: impl {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "a type whose methods stand in two files ties the two together: {wrong:#?}");
}

#[test]
fn a_name_of_a_type_is_given_once() {
    let sources = Sources::read();
    let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (module, file) in &sources.files {
        // They have the names of the modules that they replace.
        if module.contains("::without_") {
            continue;
        }
        for item in &file.items {
            if let Some(name) = type_name(item) {
                names.entry(name).or_default().push(module);
            }
        }
    }
    assert!(names.len() > 150, "the sources were read: {}", names.len());
    names.retain(|_, modules| modules.len() > 1);
    assert!(names.is_empty(), "these names are of several types: {names:#?}");
}

/// The levels that the map in ARCHITECTURE.md gives to the modules at the top.
fn levels() -> BTreeMap<String, u32> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md")).unwrap();
    let map = page.split("```").nth(1).expect("ARCHITECTURE.md has the map in its first block");
    let mut levels = BTreeMap::new();
    for line in map.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), Some(level)) = (words.next(), words.next_back()) else { continue };
        if let Some(level) = level.strip_prefix('L').and_then(|level| level.parse().ok()) {
            let name = first.trim_end_matches('/').trim_end_matches(".rs");
            assert!(levels.insert(name.to_owned(), level).is_none(), "`{name}` stands in the map twice");
        }
    }
    levels
}

/// The module at the top that `module` is, or is in; `None` for the root.
fn top(module: &str) -> Option<&str> {
    module.split("::").nth(1)
}

/// The library's files by the path of their module, such as `crate::client::http1_connection`.
struct Sources {
    files: BTreeMap<String, File>,
}

impl Sources {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let module = module(&root, &path);
                    if !module.ends_with(NOT_OF_THE_LIBRARY) {
                        let source = fs::read_to_string(&path).unwrap();
                        files.insert(module, syn::parse_file(&source).unwrap());
                    }
                }
            }
        }
        Self { files }
    }

    /// Which modules each imports from, where what it imports is defined.
    fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut all = BTreeMap::new();
        for (module, file) in &self.files {
            let mut paths = Paths { module: module.clone(), found: BTreeSet::new() };
            paths.visit_file(file);
            let mut imports: BTreeSet<_> = paths.found.iter().filter_map(|path| self.home(path)).collect();
            // A module and those inside it are one thing: `client` is made of `client::call`.
            imports.retain(|import| import != module && !is_inside(import, module) && !is_inside(module, import));
            all.insert(module.clone(), imports);
        }
        all
    }

    /// The module that defines what `path` leads to, through re-exports.
    fn home(&self, path: &[String]) -> Option<String> {
        let mut module = String::from("crate");
        let mut rest = path.get(1..)?;
        while let [first, more @ ..] = rest {
            let inner = format!("{module}::{first}");
            if self.files.contains_key(&inner) {
                (module, rest) = (inner, more);
                continue;
            }
            if let Some(exported) = self.re_export(&module, first) {
                return self.home(&exported);
            }
            break;
        }
        self.files.contains_key(&module).then_some(module)
    }

    /// What `name` stands for where `module` takes it from another of the crate.
    fn re_export(&self, module: &str, name: &str) -> Option<Vec<String>> {
        let mut found = None;
        for item in &self.files.get(module)?.items {
            if let Item::Use(item) = item {
                flatten(&item.tree, &mut Vec::new(), &mut |path, alias| {
                    if alias == name {
                        found = absolute(module, path);
                    }
                });
            }
        }
        found.filter(|path| path.join("::") != format!("{module}::{name}"))
    }
}

fn is_inside(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"))
}

fn module(root: &Path, path: &Path) -> String {
    let relative: PathBuf = path.strip_prefix(root).unwrap().with_extension("");
    let mut module = vec!["crate".to_owned()];
    module.extend(relative.iter().map(|part| part.to_str().unwrap().to_owned()));
    if module.last().is_some_and(|last| last == "lib") {
        module.pop();
    }
    module.join("::")
}

/// The paths in a module that lead into the crate, tests left out.
struct Paths {
    module: String,
    found: BTreeSet<Vec<String>>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if is_for_tests(&item.attrs) {
            return;
        }
        flatten(&item.tree, &mut Vec::new(), &mut |path, _| {
            self.found.extend(absolute(&self.module, path));
        });
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if matches!(segments[0].as_str(), "crate" | "super" | "self") && segments.len() > 1 {
            self.found.extend(absolute(&self.module, &segments));
        }
        visit::visit_path(self, path);
    }
}

/// A path from the crate's root, where it leads into the crate.
fn absolute(module: &str, path: &[String]) -> Option<Vec<String>> {
    let mut base: Vec<String> = module.split("::").map(str::to_owned).collect();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => base = vec!["crate".to_owned()],
        "self" => {}
        "super" => {
            base.pop();
        }
        _ => return None,
    }
    rest = &rest[1..];
    while rest.first().is_some_and(|first| first == "super") {
        base.pop();
        rest = &rest[1..];
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// Calls `each` with every path of a `use`, and the name that it gives.
fn flatten(tree: &UseTree, before: &mut Vec<String>, each: &mut impl FnMut(&[String], &str)) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, each);
            before.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            let last = before.last().cloned().unwrap_or_default();
            each(before, &last);
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            before.push(name.clone());
            each(before, &name);
            before.pop();
        }
        UseTree::Rename(rename) => {
            before.push(rename.ident.to_string());
            each(before, &rename.rename.to_string());
            before.pop();
        }
        UseTree::Glob(_) => each(before, "*"),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, each)),
    }
}

/// The modules that `module` imports, and those that they do.
fn reached_from(module: &str, imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![module];
    while let Some(module) = next.pop() {
        for import in &imports[module] {
            if reached.insert(import.clone()) {
                next.push(import);
            }
        }
    }
    reached
}

fn is_for_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("cfg")
            && attr.meta.require_list().is_ok_and(|list| {
                let condition = list.tokens.to_string();
                condition.contains("test") || condition.contains("fuzzing")
            })
    })
}

fn type_name(item: &Item) -> Option<String> {
    let (ident, attrs) = match item {
        Item::Struct(item) => (&item.ident, &item.attrs),
        Item::Enum(item) => (&item.ident, &item.attrs),
        Item::Trait(item) => (&item.ident, &item.attrs),
        Item::Type(item) => (&item.ident, &item.attrs),
        _ => return None,
    };
    (!is_for_tests(attrs)).then(|| ident.to_string())
}

/// Whether a type of this name is defined in `file`, by itself or by `pin_project!`.
fn defines(file: &File, name: &str) -> bool {
    let by_macro = |item: &Item| matches!(item, Item::Macro(item) if item.mac.tokens.to_string().contains(&format!("struct {name}")));
    file.items.iter().filter_map(type_name).any(|own| own == name) || file.items.iter().any(by_macro)
}
