"""For `dramatiq ${view.package}.gen.jobs.dramatiq`: the broker, with an actor for each kind."""

${imports}

broker: Final[PostgresBroker] = dramatiq_broker("${view.package}")
