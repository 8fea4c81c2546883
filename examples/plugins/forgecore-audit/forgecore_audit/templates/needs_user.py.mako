% if method not in ("get", "list"):
@needs_user
% endif
