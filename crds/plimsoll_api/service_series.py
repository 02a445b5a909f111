"""Names of the product's own series that dashboards, alert rules and tests share.

Those of a service carry the labels `namespace` and `llmservice`. The operator exposes what is asked for and what
exists, the detector what is measured and decided. What is not known is absent, never 0.
"""

from __future__ import annotations

from typing import Final

LABEL_CONDITION: Final = "type"
LABEL_STATUS: Final = "status"
LABEL_REASON: Final = "reason"
LABEL_LATENCY: Final = "latency"
"""`ttft`, `tpot`, `e2e` or `queueTime`."""
LABEL_DIAGNOSIS: Final = "kind"

# By the operator.
WANTED_REPLICAS: Final = "plimsoll_service_wanted_replicas"
READY_REPLICAS: Final = "plimsoll_service_ready_replicas"
EXISTING_REPLICAS: Final = "plimsoll_service_existing_replicas"
"""Pods that exist: serving, starting and draining ones."""
GPUS: Final = "plimsoll_service_gpus"
COST_PER_HOUR: Final = "plimsoll_service_cost_per_hour"
OBJECTIVE_SECONDS: Final = "plimsoll_service_objective_seconds"
OBJECTIVE_ATTAINMENT: Final = "plimsoll_service_objective_attainment_ratio"
PREDICTED_SECONDS: Final = "plimsoll_service_predicted_seconds"
PREDICTED_LOAD_LINE: Final = "plimsoll_service_predicted_load_line_requests_per_second"

# By the detector.
DIAGNOSIS: Final = "plimsoll_service_diagnosis"
LOAD_REPLICAS: Final = "plimsoll_service_load_replicas"
"""One number for other scalers: a product of the ratio and a count would multiply values of two moments."""
LOAD_RATIO: Final = "plimsoll_service_load_ratio"
LOAD_LINE: Final = "plimsoll_service_load_line_requests_per_second"
DESIRED_REPLICAS: Final = "plimsoll_service_desired_replicas"
BOUNDED_REPLICAS: Final = "plimsoll_service_bounded_replicas"
DATA_COVERAGE: Final = "plimsoll_service_data_coverage_ratio"
DATA_AGE: Final = "plimsoll_service_data_age_seconds"
ARRIVALS: Final = "plimsoll_service_requests_per_second"
ATTAINMENT: Final = "plimsoll_service_attainment_ratio"
LATENCY_SECONDS: Final = "plimsoll_service_latency_seconds"
"""At the objectives' percentile, over the detector's window."""

# By both: each for the conditions that it writes.
CONDITION: Final = "plimsoll_service_condition"
"""1 for the status and reason that a condition has now."""

# Of the operator's process.
OPERATOR_LEADER: Final = "plimsoll_leader"
OPERATOR_RECONCILES: Final = "plimsoll_reconcile_total"
OPERATOR_RECONCILE_SECONDS: Final = "plimsoll_reconcile_seconds"
OPERATOR_API_REQUESTS: Final = "plimsoll_api_requests_total"
OPERATOR_API_SECONDS: Final = "plimsoll_api_request_seconds"
OPERATOR_QUEUE_DEPTH: Final = "plimsoll_workqueue_depth"
OPERATOR_QUEUE_WORKING: Final = "plimsoll_workqueue_working"
OPERATOR_QUEUE_OLDEST_SECONDS: Final = "plimsoll_workqueue_oldest_seconds"
OPERATOR_QUEUE_WAIT_SECONDS: Final = "plimsoll_workqueue_wait_seconds"
OPERATOR_QUEUE_ADDS: Final = "plimsoll_workqueue_adds_total"
OPERATOR_QUEUE_RETRIES: Final = "plimsoll_workqueue_retries_total"
OPERATOR_LOOP_LAG_SECONDS: Final = "plimsoll_event_loop_lag_seconds"
OPERATOR_LAST_RESYNC: Final = "plimsoll_last_resync_timestamp_seconds"

# Of the detector's process.
DETECTOR_LEADER: Final = "plimsoll_detector_leader"
DETECTOR_SERVICES: Final = "plimsoll_detector_services"
DETECTOR_TICK_SECONDS: Final = "plimsoll_detector_tick_seconds"
DETECTOR_LATE_TICKS: Final = "plimsoll_detector_late_ticks_total"
DETECTOR_FAILED_TICKS: Final = "plimsoll_detector_failed_ticks_total"
DETECTOR_FAILED_SERVICES: Final = "plimsoll_detector_failed_services_total"
DETECTOR_QUERY_SECONDS: Final = "plimsoll_detector_prometheus_query_seconds"
DETECTOR_QUERY_FAILURES: Final = "plimsoll_detector_prometheus_query_failures_total"
DETECTOR_API_SECONDS: Final = "plimsoll_detector_api_request_seconds"
DETECTOR_SCALE_WRITES: Final = "plimsoll_detector_scale_writes_total"
DETECTOR_STATUS_WRITES: Final = "plimsoll_detector_status_writes_total"
DETECTOR_DECISIONS: Final = "plimsoll_detector_decisions_total"
