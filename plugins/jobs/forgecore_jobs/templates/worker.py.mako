"""Workers of ${view.name}. Yours: no build touches this file.

`job.tx` is a transaction: what is written through it commits together with the job's
completion, and any actions class takes it. The tenant is set, and `job.log` has the
job's keys bound. A worker may be `async def` with an AsyncJob. What it depends on, such
as a mailer, is made once in a module of yours and imported here.
"""

${imports}
% for stub in view.stubs:


@worker(${stub.args})
def ${stub.kind}(args: ${stub.args}, job: Job) -> None:
    """Run after the transaction that ${stub.moment} has committed."""
    job.log.info("${stub.event}", resource_id=str(args.resource_id))
% endfor
