"""The command line `waybill`."""
