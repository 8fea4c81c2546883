"""Every kind of the schema with its worker, for a type checker to judge."""

${imports}


@frozen(kw_only=True)
class Workers:
    """The worker of each kind; a missing or wrong one is a type error."""

% for one in view.kinds:
    ${one.kind}: Worker[${one.args}]
% endfor
