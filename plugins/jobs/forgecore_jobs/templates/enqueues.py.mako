% if method in view.kinds:
@enqueues(${view.kinds[method]})
% endif
