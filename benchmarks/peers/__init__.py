"""What is measured beside Waybill: task queues on Redis, each set up to lose no task."""
