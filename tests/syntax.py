"""Traversal of syntax trees for the tests of the source code."""


def statements(node):
    """Yield all statements in a module, class, function or other statement, with those inside of them.

    Expressions are most of the nodes of a syntax tree, so this is several times as fast as `ast.walk`.
    """
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, block, ()):
            yield child
            yield from statements(child)
