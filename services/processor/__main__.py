"""Run one processor: `python -m services.processor`.

Every worker process imports this module anew, as `multiprocessing` has it; so what only the pod
needs is imported by the pod alone.
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
    set_dumpable(dumpable=False)  # Nobody reads its secrets, workers least of all.
    refuse_unless_isolated(settings)
    serve(create_app(settings), settings)
