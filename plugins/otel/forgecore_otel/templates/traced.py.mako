@traced("${view.name}.${method}")
