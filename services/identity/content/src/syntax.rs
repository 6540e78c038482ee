//! What a template may be made of: variables of its kind, conditions, a loop over people, a few filters. Everything else
//! that Jinja can do is refused, so that no template can run long, grow large, or let a value through unescaped.

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt, UnaryOpKind};
use minijinja::machinery::{Span, parse};
use usher_core::refusal::FieldViolation;
use usher_core::template::TemplateKind;

use crate::fault::Part;
use crate::variables::{OF_PERSON, variables};

/// Filters that there are.
const FILTERS: [&str; 5] = ["upper", "lower", "capitalize", "title", "trim"];
/// What `loop` has.
const OF_LOOP: [&str; 4] = ["index", "first", "last", "length"];

/// Every fault of a source.
pub(crate) fn faults(kind: TemplateKind, part: Part, source: &str) -> Vec<FieldViolation> {
    let mut walk = Walk {
        kind,
        part,
        source,
        person: None,
        faults: Vec::new(),
    };
    match parse(source, part.field(), minijinja::syntax::SyntaxConfig::default()) {
        Ok(template) => walk.statement(&template),
        Err(error) => {
            let text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            walk.faults.push(match (error.range(), error.line()) {
                (Some(range), _) => part.fault_at(source, range.start, &text),
                (None, Some(line)) => part.fault(format!("line {line}: {text}")),
                (None, None) => part.fault(text),
            });
        }
    }
    walk.faults
}

struct Walk<'a> {
    kind: TemplateKind,
    part: Part,
    source: &'a str,
    /// What the loop that surrounds this calls each person.
    person: Option<String>,
    faults: Vec<FieldViolation>,
}

impl Walk<'_> {
    fn fault(&mut self, at: Span, description: &str) {
        let fault = self.part.fault_at(self.source, at.start_offset as usize, description);
        self.faults.push(fault);
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        let span = match statement {
            Stmt::Template(template) => return self.statements(&template.children),
            Stmt::EmitRaw(_) => return,
            Stmt::EmitExpr(emitted) => return self.expression(&emitted.expr),
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                self.statements(&condition.true_body);
                return self.statements(&condition.false_body);
            }
            Stmt::ForLoop(looped) => {
                let over_people = matches!(&looped.iter, Expr::Var(var) if var.id == "people");
                match &looped.target {
                    Expr::Var(target)
                        if over_people
                            && self.person.is_none()
                            && !looped.recursive
                            && looped.filter_expr.is_none() =>
                    {
                        self.expression(&looped.iter);
                        self.person = Some(target.id.to_owned());
                        self.statements(&looped.body);
                        self.person = None;
                    }
                    _ => self.fault(
                        looped.span(),
                        "only one loop over another's members is possible: {% for person in people %}",
                    ),
                }
                return self.statements(&looped.else_body);
            }
            Stmt::WithBlock(it) => it.span(),
            Stmt::Set(it) => it.span(),
            Stmt::SetBlock(it) => it.span(),
            Stmt::AutoEscape(it) => it.span(),
            Stmt::FilterBlock(it) => it.span(),
            Stmt::Do(it) => it.span(),
            #[expect(
                unreachable_patterns,
                reason = "which statements there are is a matter of minijinja's features"
            )]
            _ => Span::default(),
        };
        self.fault(span, "only {% if %} and {% for person in people %} are possible here");
    }

    fn expression(&mut self, expression: &Expr<'_>) {
        match expression {
            Expr::Const(_) => {}
            Expr::Var(var) => self.variable(var.id, var.span()),
            Expr::UnaryOp(it) if matches!(it.op, UnaryOpKind::Not) => self.expression(&it.expr),
            Expr::BinOp(it) if is_comparison(it.op) => {
                self.expression(&it.left);
                self.expression(&it.right);
            }
            Expr::Compare(it) => {
                self.expression(&it.expr);
                for compared in &it.ops {
                    self.expression(&compared.expr);
                }
            }
            Expr::IfExpr(it) => {
                self.expression(&it.test_expr);
                self.expression(&it.true_expr);
                if let Some(otherwise) = &it.false_expr {
                    self.expression(otherwise);
                }
            }
            Expr::Filter(it) => {
                if !FILTERS.contains(&it.name) {
                    let known = FILTERS.join(", ");
                    self.fault(it.span(), &format!("there is no filter {}; there are {known}", it.name));
                }
                if let Some(filtered) = &it.expr {
                    self.expression(filtered);
                }
                for argument in &it.args {
                    match argument {
                        CallArg::Pos(value) => self.expression(value),
                        _ => self.fault(it.span(), "filters take no such argument"),
                    }
                }
            }
            Expr::GetAttr(it) => {
                let known: &[&str] = match &it.expr {
                    Expr::Var(var) if self.person.as_deref() == Some(var.id) => &OF_PERSON,
                    Expr::Var(var) if var.id == "loop" && self.person.is_some() => &OF_LOOP,
                    _ => &[],
                };
                if !known.contains(&it.name) {
                    self.fault(it.span(), &format!("there is no variable {}", self.text(it.span())));
                }
            }
            other => self.fault(
                other.span(),
                "only variables, texts, comparisons, and, or, not and filters are possible here",
            ),
        }
    }

    fn variable(&mut self, name: &str, at: Span) {
        if self.person.as_deref() == Some(name) || (name == "loop" && self.person.is_some()) {
            return;
        }
        let here: Vec<_> = variables(self.kind)
            .filter(|variable| self.part != Part::Subject || variable.in_subject)
            .map(|variable| variable.name)
            .collect();
        if !here.contains(&name) {
            let known = here.join(", ");
            self.fault(at, &format!("there is no variable {name}; there are {known}"));
        }
    }

    fn text(&self, at: Span) -> String {
        let range = at.start_offset as usize..at.end_offset as usize;
        self.source.get(range).unwrap_or_default().to_owned()
    }
}

fn is_comparison(op: BinOpKind) -> bool {
    matches!(
        op,
        BinOpKind::Eq
            | BinOpKind::Ne
            | BinOpKind::Lt
            | BinOpKind::Lte
            | BinOpKind::Gt
            | BinOpKind::Gte
            | BinOpKind::ScAnd
            | BinOpKind::ScOr
    )
}
