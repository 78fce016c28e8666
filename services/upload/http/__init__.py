"""Large request bodies, read past the HTTP parser.

Imported by `__main__`, and by tests that serve the application.
"""
