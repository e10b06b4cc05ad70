/* Handlers, named for what they answer. Each answers its request exactly once; identity, role,
 * cross-site and query-name checks have passed before (route.c). */
#pragma once

struct req;

/* api_session.c */
void api_session_post(struct req *r);
void api_session_get(struct req *r);
void api_session_delete(struct req *r);
void api_login_link(struct req *r);
void api_health(struct req *r);
void api_openapi(struct req *r);
/* api_token.c */
void api_token_list(struct req *r);
void api_token_create(struct req *r);
void api_token_delete(struct req *r);
/* api_user.c */
void api_user_list(struct req *r);
void api_user_get(struct req *r);
void api_user_put(struct req *r);
void api_user_delete(struct req *r);
void api_audit_list(struct req *r);
/* api_saved.c */
void api_saved_list(struct req *r);
void api_saved_put(struct req *r);
void api_saved_delete(struct req *r);
/* api_hook.c */
void api_hook_list(struct req *r);
void api_hook_get(struct req *r);
void api_hook_put(struct req *r);
void api_hook_delete(struct req *r);
void api_hook_test(struct req *r);
void api_hook_deliveries(struct req *r);
void api_notices(struct req *r);
/* api_bulk.c */
void api_job_bulk(struct req *r);
void api_run_bulk(struct req *r);
/* api_operation.c */
void api_operation_list(struct req *r);
void api_operation_get(struct req *r);
void api_operation_cancel(struct req *r);
void api_rebuild_post(struct req *r);
/* api_run.c */
void api_defaults(struct req *r);
void api_run_submit(struct req *r);
void api_run_list(struct req *r);
void api_run_get(struct req *r);
void api_run_act(struct req *r);
void api_run_tune(struct req *r);
void api_run_stages(struct req *r);
void api_run_jobs(struct req *r);
void api_run_attempts(struct req *r);
/* api_job.c */
void api_job_get(struct req *r);
void api_job_act(struct req *r);
void api_job_tune(struct req *r);
void api_job_attempts(struct req *r);
void api_worker_list(struct req *r);
void api_worker_act(struct req *r);
/* api_quota.c */
void api_quota_list(struct req *r);
void api_quota_get(struct req *r);
void api_quota_put(struct req *r);
/* api_log.c */
void api_job_log(struct req *r);
void api_log_content(struct req *r);
void api_log_search(struct req *r);
void api_run_log(struct req *r);
void api_run_log_content(struct req *r);
/* api_metrics.c */
void api_job_metrics(struct req *r);
void api_run_metrics(struct req *r);
void api_run_events(struct req *r);
void api_series(struct req *r);
/* api_data.c */
void api_dataset_list(struct req *r);
void api_dataset_get(struct req *r);
void api_dataset_rows(struct req *r);
void api_dataset_row(struct req *r);
void api_dataset_export(struct req *r);
void api_dataset_stats(struct req *r);
/* api_garbage.c */
void api_garbage_get(struct req *r);
void api_garbage_post(struct req *r);

/* api_review.c */
void api_review_list(struct req *r);
void api_review_export(struct req *r);
void api_review_get(struct req *r);
void api_review_put(struct req *r);
void api_review_delete(struct req *r);
void api_run_reviews(struct req *r);
void api_run_reviews_export(struct req *r);
/* api_ckpt.c */
void api_ckpt_list(struct req *r);
void api_ckpt_get(struct req *r);
void api_ckpt_delete(struct req *r); /* api_ckpt_delete.c */
void api_ckpt_content(struct req *r);
void api_blob_get(struct req *r);
/* api_upload.c */
void api_blob_put(struct req *r);
void api_upload_get(struct req *r);
void api_upload_put(struct req *r);
/* api_compare.c */
void api_compare(struct req *r);
/* events.c */
void api_events(struct req *r);
/* api_worker.c */
void api_work_register(struct req *r);
void api_work_claim(struct req *r);
void api_work_beat(struct req *r);
void api_work_complete(struct req *r);
void api_work_fail(struct req *r);
void api_work_log(struct req *r);
