package emul

import (
	"fmt"
	"net/http"
	"slices"
)

// An Error is an answer of SLS or KMS that is not 200.
type Error struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error returns the error as one line.
func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

// SLSErrors returns the rows of SLS's table of errors: those that the emulator
// answers itself and those that only a [Fault] brings about. A code may have
// several rows.
func SLSErrors() []Error { return slices.Clone(slsErrors) }

// KMSErrors returns the rows of KMS's table of errors, like [SLSErrors].
func KMSErrors() []Error { return slices.Clone(kmsErrors) }

// Sources: https://help.aliyun.com/zh/sls/developer-reference/error-codes and,
// where a code has gone from it, the older page of each operation.
var slsErrors = []Error{
	{400, "RequestTimeExpired", "The request time expired: it differs from the server's by more than 15 minutes."},
	{400, "InvalidRequestTime", "The request time is invalid."},
	{400, "InvalidHost", "The host is invalid."},
	{400, "MissingParameter", "A required parameter is missing."},
	{400, "InvalidContentType", "The content type is invalid."},
	{415, "InvalidContentType", "The content type is invalid."},
	{400, "InvalidBodyRawSize", "x-log-bodyrawsize is invalid."},
	{400, "InvalidCompressType", "x-log-compresstype is invalid."},
	{400, "InvalidAPIVersion", "x-log-apiversion is invalid."},
	{400, "InvalidDateFormat", "The date must follow RFC 822."},
	{411, "MissingContentLength", "Content-Length does not exist in the header."},
	{400, "ParameterInvalid", "A parameter is invalid."},
	{400, "PostBodyInvalid", "The protobuf content cannot be parsed."},
	{400, "PostBodyInvalid", "The post data time is out of range."},
	{499, "PostBodyInvalid", "The post data time is out of range."},
	{400, "InvalidKey", "The key is invalid."},
	{400, "InvalidTimestamp", "The timestamp is invalid."},
	{400, "InvalidEncoding", "The encoding is not UTF-8."},
	{400, "PostBodyUncompressError", "The body cannot be uncompressed."},
	{413, "PostBodyTooLarge", "The body is too large."},
	{400, "PostBodyTooLarge", "The body is too large."},
	{400, "InvalidSequenceId", "The sequence id is not above the last one."},
	{400, "LogStoreWithoutShard", "The Logstore has no shard that can be written to."},
	{400, "LogStoreAlreadyExist", "The Logstore already exists."},
	{400, "LogstoreAlreadyExist", "The Logstore already exists."},
	{400, "LogStoreInfoInvalid", "redundant key exist in json"},
	{400, "LogstoreInfoInvalid", "redundant key exist in json"},
	{400, "ProjectQuotaExceed", "The quota of the project is exceeded."},
	{400, "ProjectAlreadyExist", "The project already exists."},
	{400, "InvalidCursor", "The cursor is invalid."},
	{400, "IndexAlreadyExist", "The index already exists."},
	{401, "SignatureNotMatch", "The signature does not match."},
	{401, "Unauthorized", "The security token you provided is invalid."},
	{401, "Unauthorized", "The security token you provided has expired."},
	{401, "Unauthorized", "AccessKeyId not found"},
	{401, "Unauthorized", "AccessKeyId is disabled"},
	{401, "Unauthorized", "The AccessKeyId is unauthorized."},
	{401, "Unauthorized", "denied by sts or ram, action: log:PostLogStoreLogs, resource: acs:log:*:*:project/*"},
	{401, "Unauthorized", "The project does not belong to you."},
	{401, "Unauthorized", "Your SLS service has been forbidden."},
	{401, "InvalidAccessKeyId", "The access key id is invalid."},
	{401, "InvalidAccessKeyId", "Your SLS service has not opened."},
	{403, "WriteQuotaExceed", "Project write quota exceed: inflow"},
	{403, "ExceedQuota", "Project write quota exceed: qps"},
	{403, "ShardWriteQuotaExceed", "shard write quota exceed, please split shard"},
	{403, "ReadQuotaExceed", "Project read quota exceed: qps"},
	{403, "ShardReadQuotaExceed", "shard read quota exceed"},
	{403, "MetaOperationQpsLimitExceeded", "The meta operation qps limit is exceeded."},
	{403, "ProjectForbidden", "The project is forbidden."},
	{404, "ProjectNotExist", "The Project does not exist"},
	{404, "LogStoreNotExist", "The Logstore does not exist."},
	{404, "ShardNotExist", "The shard does not exist."},
	{404, "GroupNotExist", "The group does not exist."},
	{404, "MachineGroupNotExist", "The machine group does not exist."},
	{404, "ConfigNotExist", "The config does not exist."},
	{404, "IndexConfigNotExist", "The index does not exist."},
	{404, "ConsumerGroupNotExist", "The consumer group does not exist."},
	{405, "InvalidMethod", "The method is invalid."},
	{501, "NotImplemented", "The operation is not implemented."},
	{501, "NotSupported", "The operation is not supported."},
	{429, "TooManyRequests", "Too many requests."},
	{500, "InternalServerError", "Internal server error."},
	{500, "InternalServerError", "no avaliable shard"},
	{500, "RequestTimeout", "The request timed out."},
	{500, "UnknownError", "An unknown error."},
	{503, "ServerBusy", "The server is busy."},
	{500, "ServerBusy", "The server is busy."},
	{504, "GatewayTimeout", "The gateway timed out."},
}

// Source: https://help.aliyun.com/document_detail/69008.html and, for what
// comes from the gateway, its common errors.
var kmsErrors = []Error{
	{409, "Rejected.Disabled", "The request was rejected because the key state is Disabled."},
	{409, "Rejected.PendingDeletion", "The request was rejected because the key state is PendingDeletion."},
	{409, "Rejected.PendingImport", "The request was rejected because the key state is PendingImport."},
	{409, "Rejected.Unavailable", "The request was rejected because the key state is Unavailable."},
	{409, "Rejected.StateModifiedFailed", "The state of the key was not modified."},
	{429, "Rejected.Throttling", "QPS Limit Exceeded"},
	{400, "Throttling", "Request was denied due to request throttling."},
	{400, "Throttling.User", "Request was denied due to user flow control."},
	{400, "Throttling.Api", "Request was denied due to api flow control."},
	{500, "InternalFailure", "Internal failure."},
	{503, "ServiceUnavailableTemporary", "The service is temporarily unavailable."},
	{503, "SerivceUnavailableTemporary", "The service is temporarily unavailable."},
	{404, "Forbidden.KeyNotFound", "The specified key is not found."},
	{404, "Forbidden.AliasNotFound", "The specified alias is not found."},
	{403, "Forbidden.NoPermission", "This operation is forbidden by permission system."},
	{403, "Forbidden.AccessKey", "The access key is disabled."},
	{403, "Forbidden.KmsServiceNotEnabled", "The KMS service is not enabled."},
	{403, "Forbidden.InDebt", "The account has overdue payments."},
	{403, "Forbidden.InDebtOverdue", "The account has long overdue payments."},
	{403, "Forbidden.ProhibitedByRiskControl", "The operation is prohibited by risk control."},
	{403, "Forbidden.UbsmsInvalidStatus", "The status of the service is invalid."},
	{404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."},
	{400, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation."},
	{403, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation."},
	{400, "IncompleteSignature", "The request signature does not conform to the standards."},
	{400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired."},
	{400, "InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed."},
	{400, "InvalidSecurityToken.MismatchWithAccessKey", "Specified SecurityToken mismatches with the AccessKey."},
	{403, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired."},
	{400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."},
	{400, "IllegalTimestamp", "The timestamp is illegal."},
	{400, "SignatureNonceUsed", "Specified signature nonce was used already."},
	{400, "MissingParameter", "A parameter that is needed is not provided."},
	{400, "InvalidParameter", "The specified parameter is not valid."},
	{400, "UnsupportedOperation", "This action is not supported."},
	{400, "ParseRequestParameterException", "The parameters of the request cannot be parsed."},
	{400, "Unsupported.KeySpec", "The key spec is not supported."},
	{400, "Rejected.LimitExceeded", "The quota of keys is exceeded."},
	{400, "DryRunOperationError", "The request would have succeeded, but the DryRun parameter was set."},
	{400, "ValidationError", "The request would have failed: a parameter is not valid."},
	{400, "AccessDeniedError", "The request would have failed: it is not permitted."},
}

// row returns a copy of the row of a code: of several the first, or the first
// of this status, unless that is 0.
func row(table []Error, code string, status int) *Error {
	found := &Error{http.StatusInternalServerError, code, code}
	for _, e := range slices.Backward(table) {
		if e.Code == code && (status == 0 || e.Status == status) {
			found = &e
		}
	}
	if status != 0 {
		found.Status = status
	}
	return found
}

// slsError returns the first row of a code with another message, unless that
// is "".
func slsError(code, format string, args ...any) *Error { return fail(slsErrors, code, format, args) }

func kmsError(code, format string, args ...any) *Error { return fail(kmsErrors, code, format, args) }

func fail(table []Error, code, format string, args []any) *Error {
	e := row(table, code, 0)
	if format != "" {
		e.Message = fmt.Sprintf(format, args...)
	}
	return e
}
