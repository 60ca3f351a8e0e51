//! Plants mutants into a source file: each changed expression stands beside the real one, behind a switch.
//!
//! `a < b` becomes `(if mutant_switch::on(7) { a > b } else { a < b })`, and so on inwards. Lines stay where they were.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::Failed;
use crate::list::{Genre, Mutant};

/// A source file with mutants in it.
pub struct Planted {
    pub text: String,
    /// Which bytes of `text` belong to which mutant: where the compiler complains there, it is about that mutant.
    pub ranges: Vec<(Range<usize>, u32)>,
    /// Mutants that cannot stand behind a switch.
    pub unplantable: Vec<u32>,
}

/// Plants `mutants` (by number) into `text`. Functions named in `constant` stay `const`, without mutants.
pub fn plant(text: &str, mutants: &[(u32, &Mutant)], constant: &BTreeSet<String>) -> Result<Planted, Failed> {
    let file = syn::parse_file(text).map_err(|error| error.to_string())?;
    let mut finder =
        Finder { text, wanted: BTreeMap::new(), sites: BTreeMap::new(), used: BTreeSet::new(), constant };
    for (number, mutant) in mutants {
        finder.wanted.entry(mutant.span.start.offset(text)).or_default().push((*number, mutant));
    }
    finder.visit_file(&file);
    let mut writer = Writer { text, sites: finder.sites, out: String::new(), ranges: Vec::new() };
    writer.write(0..text.len());
    let unplantable = mutants.iter().map(|(n, _)| *n).filter(|n| !finder.used.contains(n)).collect();
    Ok(Planted { text: writer.out, ranges: writer.ranges, unplantable })
}

/// A part of the file that is written in another way.
enum Site {
    /// `left op right`; each mutant has an operator of its own.
    Binary { left: Range<usize>, operator: String, right: Range<usize>, mutants: Vec<(u32, String)> },
    /// `op operand`, or only the operand.
    Unary { operator: String, operand: Range<usize>, mutant: u32 },
    /// `if` and a guard, of an arm that may have had none.
    Guard { guard: Option<Range<usize>>, deleted: Option<u32>, always: Option<u32>, never: Option<u32> },
    /// `field: value`, or what the rest of the struct expression has.
    Field { name: String, rest: Range<usize>, value: Option<Range<usize>>, mutant: u32 },
    /// At the beginning of a function's body.
    Returns(Vec<(u32, String)>),
    /// `const` of a function that is none any more.
    Constant,
}

/// By begin and end, the outermost first; insertions, which have no length, before all.
type Sites = BTreeMap<(usize, std::cmp::Reverse<usize>, bool), (Range<usize>, Site)>;

struct Finder<'a> {
    text: &'a str,
    /// By where they begin.
    wanted: BTreeMap<usize, Vec<(u32, &'a Mutant)>>,
    sites: Sites,
    used: BTreeSet<u32>,
    constant: &'a BTreeSet<String>,
}

impl Finder<'_> {
    fn at(&self, offset: usize, genre: Genre) -> Vec<(u32, String)> {
        let here = self.wanted.get(&offset).into_iter().flatten();
        here.filter(|(_, mutant)| mutant.genre == genre)
            .map(|(n, mutant)| (*n, mutant.replacement.clone()))
            .collect()
    }

    fn site(&mut self, range: Range<usize>, numbers: impl IntoIterator<Item = u32>, site: Site) {
        self.used.extend(numbers);
        let inserted = range.is_empty();
        let key = if inserted { usize::MAX } else { range.end };
        self.sites.insert((range.start, std::cmp::Reverse(key), !inserted), (range, site));
    }

    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        if signature.constness.is_some() && self.constant.contains(&signature.ident.to_string()) {
            return;
        }
        let Some(first) = body.stmts.first() else { return };
        let start = bytes(first.span()).start;
        let returns = self.at(start, Genre::FnValue);
        if !returns.is_empty() {
            let numbers: Vec<u32> = returns.iter().map(|(n, _)| *n).collect();
            self.site(start..start, numbers, Site::Returns(returns));
        }
        visit::visit_block(self, body);
        if let Some(constness) = signature.constness {
            self.site(bytes(constness.span()), [], Site::Constant);
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    // What is computed by the compiler cannot ask which mutant is on.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.block);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        let operator = bytes(binary.op.span());
        let mutants = self.at(operator.start, Genre::BinaryOperator);
        if !mutants.is_empty() && !has_let(&binary.left) && !has_let(&binary.right) {
            let numbers: Vec<u32> = mutants.iter().map(|(n, _)| *n).collect();
            let site = Site::Binary {
                left: bytes(binary.left.span()),
                operator: self.text[operator].into(),
                right: bytes(binary.right.span()),
                mutants,
            };
            self.site(bytes(binary.span()), numbers, site);
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let operator = bytes(unary.op.span());
        if let Some((mutant, _)) = self.at(operator.start, Genre::UnaryOperator).pop() {
            let operand = bytes(unary.expr.span());
            let site = Site::Unary { operator: self.text[operator].into(), operand, mutant };
            self.site(bytes(unary.span()), [mutant], site);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let deleted = self.at(bytes(arm.span()).start, Genre::MatchArm).pop().map(|(n, _)| n);
        let pattern_end = bytes(arm.pat.span()).end;
        let guard = arm.guard.as_ref().map(|(_, guard)| guard);
        if guard.is_none_or(|guard| !has_let(guard)) {
            let (mut always, mut never) = (None, None);
            if let Some(guard) = guard {
                for (number, replacement) in self.at(bytes(guard.span()).start, Genre::MatchArmGuard) {
                    *(if replacement == "true" { &mut always } else { &mut never }) = Some(number);
                }
            }
            let numbers: Vec<u32> = [deleted, always, never].into_iter().flatten().collect();
            if !numbers.is_empty() {
                let guard = guard.map(|guard| bytes(guard.span()));
                let range = pattern_end..guard.as_ref().map_or(pattern_end, |guard| guard.end);
                self.site(range, numbers, Site::Guard { guard, deleted, always, never });
            }
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, expression: &'ast syn::ExprStruct) {
        for field in &expression.fields {
            let (Some(rest), syn::Member::Named(name)) = (&expression.rest, &field.member) else { continue };
            let range = bytes(field.span());
            if let Some((mutant, _)) = self.at(range.start, Genre::StructField).pop() {
                let value = field.colon_token.map(|_| bytes(field.expr.span()));
                let site = Site::Field { name: name.to_string(), rest: bytes(rest.span()), value, mutant };
                self.site(range, [mutant], site);
            }
        }
        visit::visit_expr_struct(self, expression);
    }
}

/// Whether a `let` of a chain is in an expression, outside of any block.
fn has_let(expression: &syn::Expr) -> bool {
    struct Lets(bool);
    impl<'ast> Visit<'ast> for Lets {
        fn visit_expr_let(&mut self, _: &'ast syn::ExprLet) {
            self.0 = true;
        }
        fn visit_block(&mut self, _: &'ast syn::Block) {}
        fn visit_expr_if(&mut self, _: &'ast syn::ExprIf) {}
        fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
    }
    let mut lets = Lets(false);
    lets.visit_expr(expression);
    lets.0
}

fn bytes(span: Span) -> Range<usize> {
    span.byte_range()
}

struct Writer<'a> {
    text: &'a str,
    sites: Sites,
    out: String,
    ranges: Vec<(Range<usize>, u32)>,
}

impl Writer<'_> {
    /// Writes a part of the file, with all sites in it.
    fn write(&mut self, part: Range<usize>) {
        let mut at = part.start;
        loop {
            let next = self.sites.range((at, std::cmp::Reverse(usize::MAX), false)..).next();
            let Some((key, (range, _))) = next.map(|(key, site)| (*key, site)) else { break };
            if range.end > part.end || range.start >= part.end {
                break;
            }
            let range = range.clone();
            self.out.push_str(&self.text[at..range.start]);
            // Taken out, so that it is not met again within itself.
            let Some((_, site)) = self.sites.remove(&key) else { break };
            self.site(site);
            at = range.end;
        }
        self.out.push_str(&self.text[at..part.end]);
    }

    /// `if mutant_switch::on(number) { content } else `, noting whose it is.
    fn switched(&mut self, number: u32, content: &str) {
        let start = self.out.len();
        self.out.push_str(&format!("if mutant_switch::on({number}) {{ {} }}", one_line(content)));
        self.ranges.push((start..self.out.len(), number));
        self.out.push_str(" else ");
    }

    fn site(&mut self, site: Site) {
        match site {
            Site::Binary { left, operator, right, mutants } => {
                self.out.push('(');
                for (number, other) in mutants {
                    let changed =
                        format!("{} {other} {}", &self.text[left.clone()], &self.text[right.clone()]);
                    self.switched(number, &changed);
                }
                self.out.push_str("{ ");
                let between = left.end..right.start;
                self.write(left);
                // With its line ends and comments.
                debug_assert!(self.text[between.clone()].contains(&operator));
                self.out.push_str(&self.text[between]);
                self.write(right);
                self.out.push_str(" })");
            }
            Site::Unary { operator, operand, mutant } => {
                self.out.push('(');
                let changed = self.text[operand.clone()].to_owned();
                self.switched(mutant, &changed);
                self.out.push_str(&format!("{{ {operator}"));
                self.write(operand);
                self.out.push_str(" })");
            }
            Site::Guard { guard, deleted, always, never } => {
                self.out.push_str(" if true");
                for number in [deleted, never].into_iter().flatten() {
                    self.out.push_str(&format!(" && !mutant_switch::on({number})"));
                }
                if let Some(guard) = guard {
                    self.out.push_str(" && (");
                    if let Some(number) = always {
                        self.out.push_str(&format!("mutant_switch::on({number}) || "));
                    }
                    self.out.push('(');
                    self.write(guard);
                    self.out.push_str("))");
                }
            }
            Site::Field { name, rest, value, mutant } => {
                self.out.push_str(&format!("{name}: ("));
                let changed = format!("({}).{name}", &self.text[rest]);
                self.switched(mutant, &changed);
                self.out.push_str("{ ");
                match value {
                    Some(value) => self.write(value),
                    None => self.out.push_str(&name),
                }
                self.out.push_str(" })");
            }
            Site::Returns(mutants) => {
                for (number, value) in mutants {
                    let start = self.out.len();
                    self.out.push_str(&format!("if mutant_switch::on({number}) {{ return {value}; }} "));
                    self.ranges.push((start..self.out.len(), number));
                }
            }
            Site::Constant => {}
        }
    }
}

/// Without line ends, so that no line of the file moves; comments would swallow what follows.
fn one_line(code: &str) -> String {
    let lines = code.lines().map(|line| line.split_once("// ").map_or(line, |(code, _)| code).trim());
    lines.collect::<Vec<_>>().join(" ")
}
