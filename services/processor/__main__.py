"""Run one processor: `python -m services.processor`.

`multiprocessing` imports this module again in every worker process. Imports that only the pod needs
are therefore inside the `if` block.
"""

if __name__ == "__main__":
    from services.processor.app import create_app
    from services.processor.isolation.configured import refuse_unless_isolated
    from services.processor.isolation.kernel import set_dumpable
    from services.processor.settings import ProcessorSettings
    from shared.http.serving import serve
    from shared.settings import from_environment
    from shared.telemetry import configure_logging

    settings = from_environment(ProcessorSettings)
    configure_logging(settings)
    set_dumpable(dumpable=False)  # No other process, such as a worker, may read its secrets.
    refuse_unless_isolated(settings)
    serve(create_app(settings), settings)
