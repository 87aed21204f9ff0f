//! Rewrites a template's syntax tree before it is compiled, so that everything which can use up much passes a guard.
//!
//! minijinja's fuel counts instructions, but one instruction can double a text, and a few can fill the memory. So operators
//! that build values become calls (`operators.rs`), literals pass `check`, loop bodies begin with `tick`, and
//! plain text is written like any expression, through the formatter that counts it. The calls' names hold a colon: no
//! template can name them.

use minijinja::machinery::ast::*;
use minijinja::machinery::{tokenize, Span, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;

/// Tokens in one tag, and `elif`s in a template: both nest the tree, which is walked recursively.
const MAX_TAG_TOKENS: usize = 2000;
const MAX_ELIFS: usize = 300;

pub fn check_shape(source: &str, syntax: &SyntaxConfig) -> Result<(), String> {
    let (mut tokens, mut elifs) = (0, 0);
    for token in tokenize(source, false, syntax.clone()) {
        let Ok((token, _)) = token else { return Ok(()) }; // the parser says what is wrong
        tokens += 1;
        match token {
            Token::VariableStart | Token::BlockStart => tokens = 0,
            Token::Ident("elif") => elifs += 1,
            _ => {}
        }
        if tokens > MAX_TAG_TOKENS {
            return Err(format!("a tag of the template has more than {MAX_TAG_TOKENS} words"));
        }
        if elifs > MAX_ELIFS {
            return Err(format!("the template has more than {MAX_ELIFS} elif tags"));
        }
    }
    Ok(())
}

fn call<'a>(name: &'static str, args: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    let function = Expr::Var(Spanned::new(Var { id: name }, span));
    let args = args.into_iter().map(CallArg::Pos).collect();
    Expr::Call(Spanned::new(Call { expr: function, args }, span))
}

fn emit<'a>(expr: Expr<'a>, span: Span) -> Stmt<'a> {
    Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, span))
}

fn text<'a>(value: &str, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(Const { value: Value::from(value) }, span))
}

pub fn statement<'a>(stmt: &Stmt<'a>) -> Stmt<'a> {
    match stmt {
        Stmt::Template(s) => Stmt::Template(Spanned::new(Template { children: body(&s.children) }, s.span())),
        Stmt::EmitExpr(s) => emit(expression(&s.expr), s.span()),
        Stmt::EmitRaw(s) => emit(text(s.raw, s.span()), s.span()),
        Stmt::ForLoop(s) => {
            let mut inner = vec![emit(call("guard:tick", vec![], s.span()), s.span())];
            inner.extend(body(&s.body));
            let node = ForLoop {
                target: target(&s.target),
                iter: call("guard:iterable", vec![expression(&s.iter)], s.span()),
                filter_expr: s.filter_expr.as_ref().map(expression),
                recursive: s.recursive,
                body: inner,
                else_body: body(&s.else_body),
            };
            Stmt::ForLoop(Spanned::new(node, s.span()))
        }
        Stmt::IfCond(s) => {
            let node = IfCond {
                expr: expression(&s.expr),
                true_body: body(&s.true_body),
                false_body: body(&s.false_body),
            };
            Stmt::IfCond(Spanned::new(node, s.span()))
        }
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(to, from)| (target(to), expression(from))).collect();
            Stmt::WithBlock(Spanned::new(WithBlock { assignments, body: body(&s.body) }, s.span()))
        }
        Stmt::Set(s) => {
            let value = expression(&s.expr);
            let stored = matches!(s.target, Expr::GetAttr(_));
            let expr = if stored { call("guard:stored", vec![value], s.span()) } else { value };
            Stmt::Set(Spanned::new(Set { target: target(&s.target), expr }, s.span()))
        }
        Stmt::SetBlock(s) => {
            let filter = s.filter.as_ref().map(filter_chain);
            Stmt::SetBlock(Spanned::new(
                SetBlock { target: target(&s.target), filter, body: body(&s.body) },
                s.span(),
            ))
        }
        Stmt::AutoEscape(s) => Stmt::AutoEscape(Spanned::new(
            AutoEscape { enabled: expression(&s.enabled), body: body(&s.body) },
            s.span(),
        )),
        Stmt::FilterBlock(s) => Stmt::FilterBlock(Spanned::new(
            FilterBlock { filter: filter_chain(&s.filter), body: body(&s.body) },
            s.span(),
        )),
        Stmt::Macro(s) => Stmt::Macro(macro_declaration(s)),
        Stmt::CallBlock(s) => {
            let node = CallBlock { call: plain_call(&s.call), macro_decl: macro_declaration(&s.macro_decl) };
            Stmt::CallBlock(Spanned::new(node, s.span()))
        }
        Stmt::Block(s) => Stmt::Block(Spanned::new(
            Block { name: s.name, required: s.required, body: body(&s.body) },
            s.span(),
        )),
        // There is no other template to be had, so these fail when they run.
        Stmt::Import(s) => {
            Stmt::Import(Spanned::new(Import { expr: expression(&s.expr), name: target(&s.name) }, s.span()))
        }
        Stmt::FromImport(s) => {
            let names =
                s.names.iter().map(|(name, alias)| (target(name), alias.as_ref().map(target))).collect();
            Stmt::FromImport(Spanned::new(FromImport { expr: expression(&s.expr), names }, s.span()))
        }
        Stmt::Extends(s) => Stmt::Extends(Spanned::new(Extends { name: expression(&s.name) }, s.span())),
        Stmt::Include(s) => {
            let node = Include { name: expression(&s.name), ignore_missing: s.ignore_missing };
            Stmt::Include(Spanned::new(node, s.span()))
        }
        Stmt::Continue(s) => Stmt::Continue(Spanned::new(Continue, s.span())),
        Stmt::Break(s) => Stmt::Break(Spanned::new(Break, s.span())),
        Stmt::Do(s) => Stmt::Do(Spanned::new(Do { call: plain_call(&s.call) }, s.span())),
    }
}

fn body<'a>(statements: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
    statements.iter().map(statement).collect()
}

fn macro_declaration<'a>(s: &Spanned<Macro<'a>>) -> Spanned<Macro<'a>> {
    let mut inner = vec![emit(call("guard:tick", vec![], s.span()), s.span())];
    inner.extend(body(&s.body));
    let node = Macro {
        name: s.name,
        args: s.args.iter().map(target).collect(),
        defaults: s.defaults.iter().map(expression).collect(),
        body: inner,
    };
    Spanned::new(node, s.span())
}

/// Where something is assigned to: names, lists of names, attributes of namespaces. Copied as it is.
fn target<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Var(s) => Expr::Var(Spanned::new(Var { id: s.id }, s.span())),
        Expr::List(s) => {
            Expr::List(Spanned::new(List { items: s.items.iter().map(target).collect() }, s.span()))
        }
        Expr::Tuple(s) => {
            Expr::Tuple(Spanned::new(Tuple { items: s.items.iter().map(target).collect() }, s.span()))
        }
        Expr::GetAttr(s) => {
            Expr::GetAttr(Spanned::new(GetAttr { expr: target(&s.expr), name: s.name }, s.span()))
        }
        other => expression(other),
    }
}

/// The filters of a block. The innermost has no expression and takes the block's text; the filters guard themselves.
fn filter_chain<'a>(expr: &Expr<'a>) -> Expr<'a> {
    let Expr::Filter(s) = expr else { return expression(expr) };
    let node = Filter { name: s.name, expr: s.expr.as_ref().map(filter_chain), args: arguments(&s.args) };
    Expr::Filter(Spanned::new(node, s.span()))
}

fn arguments<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let one = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(e) => CallArg::Pos(expression(e)),
        CallArg::Kwarg(name, e) => CallArg::Kwarg(name, expression(e)),
        CallArg::PosSplat(e) => CallArg::PosSplat(expression(e)),
        CallArg::KwargSplat(e) => CallArg::KwargSplat(expression(e)),
    };
    args.iter().map(one).collect()
}

fn plain_call<'a>(s: &Spanned<Call<'a>>) -> Spanned<Call<'a>> {
    Spanned::new(Call { expr: expression(&s.expr), args: arguments(&s.args) }, s.span())
}

fn binary<'a>(s: &Spanned<BinOp<'a>>) -> Expr<'a> {
    let (left, right) = (expression(&s.left), expression(&s.right));
    match s.op {
        BinOpKind::Concat => call("guard:concat", vec![left, right], s.span()),
        BinOpKind::Mul => call("guard:multiply", vec![left, right], s.span()),
        BinOpKind::Rem => call("guard:remainder", vec![left, right], s.span()),
        BinOpKind::Lt => call("guard:less", vec![left, right], s.span()),
        BinOpKind::Gt => call("guard:less", vec![right, left], s.span()),
        BinOpKind::Lte => call("guard:less_or_equal", vec![left, right], s.span()),
        BinOpKind::Gte => call("guard:less_or_equal", vec![right, left], s.span()),
        // These decide which side is evaluated at all, and build nothing.
        op @ (BinOpKind::ScAnd | BinOpKind::ScOr) => {
            Expr::BinOp(Spanned::new(BinOp { op, left, right }, s.span()))
        }
        // These at most add up what both sides hold: looking at the result is early enough.
        op => call(
            "guard:check",
            vec![Expr::BinOp(Spanned::new(BinOp { op, left, right }, s.span()))],
            s.span(),
        ),
    }
}

fn expression<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Var(s) => Expr::Var(Spanned::new(Var { id: s.id }, s.span())),
        Expr::Const(s) => Expr::Const(Spanned::new(Const { value: s.value.clone() }, s.span())),
        Expr::Slice(s) => {
            let none = || Expr::Const(Spanned::new(Const { value: Value::from(()) }, s.span()));
            let part = |e: &Option<Expr<'a>>| e.as_ref().map_or_else(none, expression);
            call(
                "guard:slice",
                vec![expression(&s.expr), part(&s.start), part(&s.stop), part(&s.step)],
                s.span(),
            )
        }
        Expr::UnaryOp(s) => {
            let op = if matches!(s.op, UnaryOpKind::Not) { UnaryOpKind::Not } else { UnaryOpKind::Neg };
            Expr::UnaryOp(Spanned::new(UnaryOp { op, expr: expression(&s.expr) }, s.span()))
        }
        Expr::BinOp(s) => binary(s),
        Expr::Compare(s) => {
            let one = |op: &CompareOp<'a>| CompareOp { op: op.op, expr: expression(&op.expr) };
            let node = Compare { expr: expression(&s.expr), ops: s.ops.iter().map(one).collect() };
            call("guard:check", vec![Expr::Compare(Spanned::new(node, s.span()))], s.span())
        }
        Expr::IfExpr(s) => {
            let node = IfExpr {
                test_expr: expression(&s.test_expr),
                true_expr: expression(&s.true_expr),
                false_expr: s.false_expr.as_ref().map(expression),
            };
            Expr::IfExpr(Spanned::new(node, s.span()))
        }
        Expr::Filter(s) => {
            let node =
                Filter { name: s.name, expr: s.expr.as_ref().map(expression), args: arguments(&s.args) };
            Expr::Filter(Spanned::new(node, s.span()))
        }
        Expr::Test(s) => {
            let node = Test { name: s.name, expr: expression(&s.expr), args: arguments(&s.args) };
            Expr::Test(Spanned::new(node, s.span()))
        }
        Expr::GetAttr(s) => {
            Expr::GetAttr(Spanned::new(GetAttr { expr: expression(&s.expr), name: s.name }, s.span()))
        }
        Expr::GetItem(s) => {
            let node = GetItem { expr: expression(&s.expr), subscript_expr: expression(&s.subscript_expr) };
            Expr::GetItem(Spanned::new(node, s.span()))
        }
        Expr::Call(s) => Expr::Call(plain_call(s)),
        Expr::List(s) => {
            let node = List { items: s.items.iter().map(expression).collect() };
            call("guard:check", vec![Expr::List(Spanned::new(node, s.span()))], s.span())
        }
        Expr::Tuple(s) => {
            let node = Tuple { items: s.items.iter().map(expression).collect() };
            call("guard:check", vec![Expr::Tuple(Spanned::new(node, s.span()))], s.span())
        }
        Expr::Map(s) => {
            let node = Map {
                keys: s.keys.iter().map(expression).collect(),
                values: s.values.iter().map(expression).collect(),
            };
            call("guard:check", vec![Expr::Map(Spanned::new(node, s.span()))], s.span())
        }
    }
}
