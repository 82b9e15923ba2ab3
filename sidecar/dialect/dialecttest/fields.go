package dialecttest

import (
	"go/ast"
	"go/constant"
	"go/types"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// CheckFields checks the source of the package under test: each handler of a route, with the functions that it calls, reads
// only fields that the route lists, by name and type. It finds routes by their literals: those that have a handler and a
// list of fields. It returns how many there are.
func CheckFields(t *testing.T) int {
	t.Helper()
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports | packages.NeedExportFile,
	}, ".")
	if err != nil || len(loaded) != 1 || len(loaded[0].Errors) > 0 {
		t.Fatalf("cannot load the package: %v %v", err, loaded)
	}
	s := newSource(loaded[0])
	routes := 0
	s.each(func(n ast.Node) {
		literal, ok := n.(*ast.CompositeLit)
		if !ok {
			return
		}
		handler, fields := s.route(literal)
		if handler == nil || fields == nil {
			return
		}
		routes++
		listed := fieldSet{}
		s.fieldsOf(fields, nil, listed, map[types.Object]bool{})
		read := fieldSet{}
		s.readsOf(handler, read, map[types.Object]bool{})
		for f := range read {
			if !listed[f] {
				t.Errorf("%s: %s reads the %s %q, which its route does not list", s.pkg.Fset.Position(literal.Pos()), types.ExprString(handler), f.kind, f.name)
			}
		}
	})
	return routes
}

// field is a field by what identifies it.
type field struct{ name, kind string }

type fieldSet map[field]bool

// source is a package with what its objects are declared as.
type source struct {
	pkg   *packages.Package
	funcs map[types.Object]*ast.FuncDecl
	vars  map[types.Object]ast.Expr // initial values of package variables
}

func newSource(pkg *packages.Package) *source {
	s := &source{pkg, map[types.Object]*ast.FuncDecl{}, map[types.Object]ast.Expr{}}
	s.each(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.FuncDecl:
			s.funcs[pkg.TypesInfo.Defs[n.Name]] = n
		case *ast.ValueSpec:
			for i := range n.Values {
				if v := pkg.TypesInfo.Defs[n.Names[i]]; v != nil && v.Parent() == pkg.Types.Scope() {
					s.vars[v] = n.Values[i]
				}
			}
		}
	})
	return s
}

func (s *source) each(visit func(ast.Node)) {
	for _, file := range s.pkg.Syntax {
		ast.Inspect(file, func(n ast.Node) bool { visit(n); return true })
	}
}

// kernel is the path of the package that declares routes and fields.
const kernel = "github.com/keyside/keyside/sidecar/dialect"

// typeName returns the name of a type of the kernel, or of what it points to; empty for other types.
func typeName(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := types.Unalias(t).(*types.Named); ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == kernel {
		return n.Obj().Name()
	}
	return ""
}

// route returns the handler and the list of fields of a route's literal. A handler is a method, or a call that returns it.
func (s *source) route(literal *ast.CompositeLit) (handler, fields ast.Expr) {
	if _, isStruct := s.pkg.TypesInfo.TypeOf(literal).Underlying().(*types.Struct); !isStruct {
		return nil, nil
	}
	for _, e := range literal.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			e = pair.Value
		}
		switch t := s.pkg.TypesInfo.TypeOf(e).Underlying().(type) {
		case *types.Signature:
			if _, isName := e.(*ast.Ident); !isName && t.Results().Len() == 1 {
				handler = e
			}
		case *types.Slice:
			if typeName(t.Elem()) == "Field" {
				fields = e
			}
		}
	}
	return handler, fields
}

// fieldsOf adds the fields that an expression declares or derives from others. names has the values of a function's
// parameters that are constant strings.
func (s *source) fieldsOf(n ast.Node, names map[types.Object]string, into fieldSet, seen map[types.Object]bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if v := s.pkg.TypesInfo.Uses[n]; s.vars[v] != nil && !seen[v] {
				seen[v] = true
				s.fieldsOf(s.vars[v], nil, into, seen)
			}
		case *ast.CompositeLit:
			s.declared(n, names, into)
		case *ast.CallExpr:
			if f := s.called(n); f != nil {
				s.fieldsOf(f.Body, s.bind(f, n), into, seen)
			}
		}
		return true
	})
}

// declared adds the field of a literal.
func (s *source) declared(literal *ast.CompositeLit, names map[types.Object]string, into fieldSet) {
	kind := typeName(s.pkg.TypesInfo.TypeOf(literal))
	for _, e := range literal.Elts {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok || !strings.HasSuffix(kind, "Field") {
			continue
		}
		if key, ok := pair.Key.(*ast.Ident); !ok || key.Name != "Name" {
			continue
		}
		if v := s.pkg.TypesInfo.Types[pair.Value].Value; v != nil {
			into[field{constant.StringVal(v), kind}] = true
		} else if parameter, ok := pair.Value.(*ast.Ident); ok {
			into[field{names[s.pkg.TypesInfo.Uses[parameter]], kind}] = true
		}
	}
}

// called returns the function of this package that a call calls, nil for others.
func (s *source) called(call *ast.CallExpr) *ast.FuncDecl {
	if name, ok := call.Fun.(*ast.Ident); ok {
		return s.funcs[s.pkg.TypesInfo.Uses[name]]
	}
	return nil
}

// bind returns the constant strings that a call gives to the parameters of a function.
func (s *source) bind(f *ast.FuncDecl, call *ast.CallExpr) map[types.Object]string {
	names, i := map[types.Object]string{}, 0
	for _, parameters := range f.Type.Params.List {
		for _, p := range parameters.Names {
			if i < len(call.Args) {
				if v := s.pkg.TypesInfo.Types[call.Args[i]].Value; v != nil && v.Kind() == constant.String {
					names[s.pkg.TypesInfo.Defs[p]] = constant.StringVal(v)
				}
			}
			i++
		}
	}
	return names
}

// readsOf adds the fields of all variables that a piece of source mentions, or a function of this package that it mentions.
func (s *source) readsOf(n ast.Node, into fieldSet, seen map[types.Object]bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		name, ok := n.(*ast.Ident)
		if !ok {
			return true
		}
		used := s.pkg.TypesInfo.Uses[name]
		if fn, ok := used.(*types.Func); ok {
			if f := s.funcs[fn.Origin()]; f != nil && !seen[fn.Origin()] {
				seen[fn.Origin()] = true
				s.readsOf(f, into, seen)
			}
		} else if used != nil && s.vars[used] != nil && strings.HasSuffix(typeName(used.Type()), "Field") {
			s.fieldsOf(name, nil, into, map[types.Object]bool{})
		}
		return true
	})
}
