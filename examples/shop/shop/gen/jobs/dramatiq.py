"""For `dramatiq shop.gen.jobs.dramatiq`: the broker, with an actor for each kind."""

from typing import Final

from forgecore_jobs.engine.broker import PostgresBroker
from forgecore_jobs.engine.run import dramatiq_broker

broker: Final[PostgresBroker] = dramatiq_broker("shop")
