AUDITED: Final = (
% for field in view.resource.fields:
% if not view.audit.fields or field.name in view.audit.fields:
    "${field.name}",
% endif
% endfor
)
