"""Every kind of the schema: `Workers(...)` with its workers is what a type checker can judge."""

${imports}


@frozen(kw_only=True)
class Workers:
    """The worker of each kind; one that is missing, or of another kind, is a type error."""

% for one in view.kinds:
    ${one.kind}: Worker[${one.args}]
% endfor
