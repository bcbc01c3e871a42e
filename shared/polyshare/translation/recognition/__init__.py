"""Which files are models of which framework: a module a framework, each with a function of a path.

They read names and beginnings of files, in bounded memory. Nothing here loads a model: loading one runs its code.
"""
