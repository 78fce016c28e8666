"""Servers that do nothing but tell every connection the same, to stand beside Waybill's push."""
