package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

var (
	boundaries = map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}
	operators  = map[token.Token]string{token.ADD: "mutantAdd", token.SUB: "mutantSub"}
	steps      = map[token.Token]string{token.ADD_ASSIGN: "-=", token.SUB_ASSIGN: "+=", token.INC: "--", token.DEC: "++"}
	jumps      = map[token.Token]string{token.BREAK: "continue", token.CONTINUE: "break"}
	numbers    = map[string]string{"0": "1", "1": "0"}
	// Without a lock, or with one for ever, most fail at once and tell nothing.
	locks = map[string]bool{"Lock": true, "Unlock": true, "RLock": true, "RUnlock": true}
)

// walker makes the mutants of what it visits.
type walker struct {
	*source
	results *types.Tuple // of the function
	loop    bool         // there is one around
}

// Visit implements ast.Visitor.
func (w walker) Visit(n ast.Node) ast.Visitor {
	if e, ok := n.(ast.Expr); ok && w.info.Types[e].Value != nil {
		w.constant(e)
		return nil
	}
	switch n := n.(type) {
	case *ast.ArrayType: // whose length is constant
		return nil
	case *ast.GenDecl:
		if n.Tok != token.VAR {
			return nil
		}
	case *ast.FuncDecl:
		w.function(w.info.Defs[n.Name].Type(), n.Body)
	case *ast.FuncLit:
		w.function(w.info.TypeOf(n), n.Body)
	case *ast.ForStmt:
		w.loop = true
		w.condition(n.Cond)
	case *ast.RangeStmt:
		w.loop = true
	case *ast.IfStmt:
		w.condition(n.Cond)
	case *ast.SwitchStmt:
		for _, clause := range n.Body.List {
			for _, e := range clause.(*ast.CaseClause).List {
				if n.Tag == nil {
					w.condition(e)
				}
			}
		}
	case *ast.BlockStmt:
		w.statements(n.List)
	case *ast.CaseClause:
		w.statements(n.Body)
	case *ast.CommClause:
		w.statements(n.Body)
	case *ast.BinaryExpr:
		w.binary(n)
	}
	return w
}

// function begins a function. Its loops may end by a mutant, which the compiler must
// not take for a missing return.
func (w *walker) function(t types.Type, body *ast.BlockStmt) {
	w.results, w.loop = t.(*types.Signature).Results(), false
	if body != nil && w.results.Len() > 0 {
		w.after[body.Rbrace] = "\n;panic(`a mutant came here`)\n"
	}
}

// constant mutates a literal.
func (w walker) constant(e ast.Expr) {
	text := w.in(e)
	t, ok := w.info.TypeOf(e).(*types.Basic)
	switch {
	case text == "true" || text == "false":
		w.negate(e)
	case ok && t.Info()&types.IsInteger != 0 && numbers[text] != "":
		w.add(e, strings.TrimPrefix(t.Name(), "untyped ")+"(mutantInt(#, ", ", "+numbers[text]+"))", text+" -> "+numbers[text])
	}
}

// negate has a condition be true when it is false.
func (w walker) negate(e ast.Expr) { w.add(e, "mutantNot(#, ", ")", "not ("+w.in(e)+")") }

// condition negates what isn't a comparison, which binary does.
func (w walker) condition(e ast.Expr) {
	e = ast.Unparen(e)
	if n, ok := e.(*ast.BinaryExpr); !ok && e != nil {
		w.negate(e)
	} else if ok && (n.Op == token.LAND || n.Op == token.LOR) {
		w.condition(n.X)
		w.condition(n.Y)
	}
}

func (w walker) binary(n *ast.BinaryExpr) {
	switch other := boundaries[n.Op]; {
	case n.Op == token.LAND || n.Op == token.LOR: // by De Morgan's law
		w.add(n, "mutantNot(#, ", ")", "the other of && and || in "+w.in(n))
		w.around(n.X, "mutantNot(#, ", ")")
		w.around(n.Y, "mutantNot(#, ", ")")
	case n.Op == token.EQL || n.Op == token.NEQ:
		w.negate(n)
	case other != "":
		w.negate(n)
		w.add(n, "(mutantOn(#) && ("+w.in(n.X)+other+w.in(n.Y)+") || !mutantOn(#) && (", "))", w.in(n)+" with "+other)
	case operators[n.Op] != "" && w.isNumber(n):
		w.add(n, operators[n.Op]+"(#, ", ")", w.in(n)+" with the other of + and -")
		w.before[n.OpPos], w.gone[n.OpPos] = ",", true
	}
}

func (w walker) isNumber(e ast.Expr) bool {
	t, ok := w.info.TypeOf(e).Underlying().(*types.Basic)
	return ok && t.Info()&types.IsNumeric != 0
}

// statements leaves out, or changes, one at a time.
func (w walker) statements(list []ast.Stmt) {
	for _, stmt := range list {
		switch n := stmt.(type) {
		case *ast.ExprStmt:
			w.leaveOut(n, n.X)
		case *ast.DeferStmt:
			w.leaveOut(n, n.Call)
		case *ast.SendStmt, *ast.GoStmt:
			w.leaveOut(n, nil)
		case *ast.IncDecStmt:
			w.leaveOut(n, nil)
			w.replace(n, w.in(n.X)+steps[n.Tok])
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				w.leaveOut(n, nil)
			}
			if steps[n.Tok] != "" && w.isNumber(n.Lhs[0]) {
				w.replace(n, w.in(n.Lhs[0])+steps[n.Tok]+w.in(n.Rhs[0]))
			}
		case *ast.BranchStmt:
			if n.Label == nil && w.loop && jumps[n.Tok] != "" {
				w.replace(n, jumps[n.Tok])
			}
		case *ast.ReturnStmt:
			if w.results.Len() == len(n.Results) { // not by name, nor what another function returns
				w.returns(n)
			}
		}
	}
}

// leaveOut leaves out a statement, which may be the call of a function.
func (w walker) leaveOut(n ast.Stmt, call ast.Expr) {
	if c, ok := call.(*ast.CallExpr); ok {
		if f, ok := c.Fun.(*ast.SelectorExpr); ok && locks[f.Sel.Name] {
			return
		}
	}
	w.add(n, "if !mutantOn(#) { ", " }", "without "+w.in(n))
}

func (w walker) replace(n ast.Stmt, other string) {
	w.add(n, "if mutantOn(#) { "+other+" } else { ", " }", w.in(n)+" -> "+other)
}

// returns has a function return zero values.
func (w walker) returns(n *ast.ReturnStmt) {
	for i, e := range n.Results {
		tv, t := w.info.Types[e], w.results.At(i).Type()
		_, binary := ast.Unparen(e).(*ast.BinaryExpr)
		lit, isLit := e.(*ast.CompositeLit)
		switch {
		case tv.IsNil() || tv.Value != nil || binary || isLit && len(lit.Elts) == 0: // zero, or mutated otherwise
		case types.Identical(tv.Type, t):
			w.add(e, "mutantZero(#, ", ")", "a zero value for "+w.in(e)+" in "+w.in(n))
		case types.IsInterface(t):
			texts := make([]string, len(n.Results))
			for j, e := range n.Results {
				texts[j] = w.in(e)
			}
			texts[i] = "nil"
			w.replace(n, "return "+strings.Join(texts, ", "))
		}
	}
}
