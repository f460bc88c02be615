"""Every setting, in one file. An operator's numbers come from the environment and fail loudly when they are wrong."""

from pathlib import Path
from typing import Any

from django.utils.translation import gettext_lazy as _
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from shop import env
from shop.postgresql.base import POOL

BASE_DIR = Path(__file__).resolve().parent.parent
STATE = Path(env.text("STATE", ".state"))
if not STATE.is_absolute():
    STATE = BASE_DIR / STATE

env.fill_from(STATE / "env")
env.fill_from(STATE / "secrets")

# --- Who runs this -----------------------------------------------------------------------------------------------

#: `local` is what `make up` says; nothing said means production, the strictest.
PROFILE = env.choice("PROFILE", ("local", "test", "production"), default="production")
PRODUCTION = PROFILE == "production"
DEBUG = False
HTTPS = env.flag("HTTPS", default=PRODUCTION)

SHOP_URL = env.text("SHOP_URL", "http://127.0.0.1:8000").rstrip("/")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "" if PRODUCTION else "127.0.0.1,localhost,[::1],testserver")

# --- Keys: the first one signs, all of them verify, so that a key is changed without signing anybody out -------------

_secret_keys = env.keys("SECRET_KEY")
SECRET_KEY, SECRET_KEY_FALLBACKS = _secret_keys[0], _secret_keys[1:]
BUYER_KEYS = env.keys("BUYER_KEYS")
TICKET_KEYS = env.keys("TICKET_KEYS")
RECEIPT_KEYS = env.keys("RECEIPT_KEYS")
PROVIDER_SECRET = env.keys("PROVIDER_SECRET")[0]

# --- The record: PostgreSQL ------------------------------------------------------------------------------------------

#: Web processes share a few pooled connections; a worker keeps one, because Celery's fork would close a pool.
DATABASE_POOL = env.flag("DATABASE_POOL", default=False)
#: A query that is slower than this has lost its reader.
DATABASE_STATEMENT_TIMEOUT_MS = env.whole("DATABASE_STATEMENT_TIMEOUT_MS", 5_000, least=100, most=60_000)


def _database(url: str) -> dict[str, Any]:
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise env.BadSetting("DATABASE_URL", str(error).strip()) from error

    options: dict[str, Any] = {
        "connect_timeout": 2,  # seconds, libpq's smallest that means what it says
        "tcp_user_timeout": 5_000,  # ms until unacknowledged data end a connection to a host that is gone
        "keepalives_idle": 10,  # seconds
        "options": (
            f"-c statement_timeout={DATABASE_STATEMENT_TIMEOUT_MS} -c lock_timeout=2000"
            " -c idle_in_transaction_session_timeout=10000"
        ),
    }
    if DATABASE_POOL:
        options["pool"] = POOL
    return {
        "ENGINE": "shop.postgresql",
        "NAME": parts.get("dbname", "shop"),
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": parts.get("port", ""),
        "CONN_MAX_AGE": 0 if DATABASE_POOL else None,
        "CONN_HEALTH_CHECKS": not DATABASE_POOL,  # the pool's are checked each time one is lent
        "OPTIONS": options,
    }


DATABASES = {"default": _database(env.text("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- The counters: stock Redis ---------------------------------------------------------------------------------------

STOCK_REDIS_URL = env.text("STOCK_REDIS_URL")
#: Events that may wait for PostgreSQL before reserving answers BUSY: about a minute of one worker's drain.
EVENTS_WAITING_MAXIMUM = env.whole("EVENTS_WAITING_MAXIMUM", 500_000, least=1, most=10_000_000)
#: How long an event stays with a worker that gives no sign of life; longer than all database timeouts together.
CLAIM_AFTER_SECONDS = env.whole("CLAIM_AFTER_SECONDS", 30, least=1, most=3_600)
#: How long an event is kept after it was written down, to be read again when PostgreSQL itself lost its last commits.
EVENTS_KEPT_SECONDS = env.whole("EVENTS_KEPT_SECONDS", 60, most=24 * 3_600)
#: How long buyers may show their receipts, after Redis lost data, before the rest goes on sale again.
CLAIM_WINDOW_SECONDS = env.whole("CLAIM_WINDOW_SECONDS", 60 if PRODUCTION else 5, most=3_600)
#: How long a payment may come after its deadline and still find its hold.
PAYMENT_GRACE_SECONDS = env.whole("PAYMENT_GRACE_SECONDS", 60 if PRODUCTION else 0, most=3_600)

# --- The caches ------------------------------------------------------------------------------------------------------

CACHE_REDIS_URL = env.text("CACHE_REDIS_URL")
#: Of one node or several; none leaves the second tier out.
MEMCACHED_URLS = env.words("MEMCACHED_URL")

CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "resilience.cache.tiered.TieredCache",
        "LOCATION": "cache",
        "OPTIONS": {"REDIS": "redis", "MEMCACHED": [url.removeprefix("unix://") for url in MEMCACHED_URLS]},
    },
    "redis": {  # the third tier's address and pool; nobody reads it as a cache of its own
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": CACHE_REDIS_URL,
        "OPTIONS": {
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",  # never pickle: a cache is not trusted
            "SOCKET_CONNECT_TIMEOUT": 0.1,
            "SOCKET_TIMEOUT": 0.1,
        },
    },
}

# --- The workers: Celery on its own Redis ----------------------------------------------------------------------------

CELERY_BROKER_URL = env.text("BROKER_URL")
CELERY_TASK_IGNORE_RESULT = True  # nobody waits for a result; the data are in the stream and in PostgreSQL
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,  # kombu's default is for ever: a publish would hang on a dead peer
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 5,  # no retry on timeout beside it: a ring in vain would hold its thread twice as long
}
CELERY_TASK_TIME_LIMIT = 30  # seconds; every task is short by design and safe to repeat

# --- Trying again: at one layer, named in resilience/README.md, and paid for by successes -----------------------------

#: Seconds for which a dependency that fails is left alone: at first, and at most after failing again and again. A look
#: at whether it is back costs a few requests their time, and half a minute would keep a sale closed that could sell.
BREAKER_OPEN_SECONDS = env.numbers("BREAKER_OPEN_SECONDS", "1/5", {"seconds at first": (1, 60), "at most": (1, 600)})
if BREAKER_OPEN_SECONDS[0] > BREAKER_OPEN_SECONDS[1]:
    raise env.BadSetting("BREAKER_OPEN_SECONDS", f"{BREAKER_OPEN_SECONDS[0]} at first is more than at most")
#: With fewer than ten successes for a retry, an outage of everything but every tenth call would hear more than 1.1
#: times of what is asked.
_BUDGET = {"successes for a retry": (10, 1_000), "retries saved": (0, 100)}
#: Questions to the payment provider: attempts, ms of the first pause, and the budget of a process.
RETRY_PROVIDER = env.numbers(
    "RETRY_PROVIDER", "3/50/10/10", {"attempts": (1, 3), "ms of the first pause": (0, 1_000), **_BUDGET}
)
#: Second tries with a reservation whose answer was lost: the budget of a process.
RETRY_RESERVE = env.numbers("RETRY_RESERVE", "10/10", _BUDGET)
#: Tasks that nobody starts again: retries, seconds of the first pause, and of the longest.
RETRY_TASKS = env.numbers(
    "RETRY_TASKS",
    "5/1/60",
    {"retries": (0, 10), "seconds of the first pause": (1, 60), "seconds of the longest pause": (1, 3_600)},
)
if RETRY_TASKS[1] > RETRY_TASKS[2]:
    raise env.BadSetting("RETRY_TASKS", "the first pause must not be longer than the longest")

# --- Payments --------------------------------------------------------------------------------------------------------

PROVIDER_URL = env.text("PROVIDER_URL", "http://127.0.0.1:8001").rstrip("/")
#: Seconds we wait for the provider inside a shopper's request.
PROVIDER_TIMEOUT_SECONDS = env.whole("PROVIDER_TIMEOUT_SECONDS", 3, least=1, most=30)

# --- Tickets, cookies, receipts --------------------------------------------------------------------------------------

TICKET_SECONDS = env.whole("TICKET_SECONDS", 120, least=1, most=3_600)
BUYER_COOKIE_SECONDS = env.whole("BUYER_COOKIE_SECONDS", 12 * 3_600, least=60, most=30 * 24 * 3_600)

# --- How often somebody may knock: so many a minute / so many at once ------------------------------------------------

#: Clients that rate limits do not count (networks); loopback in the local profile, nobody by default.
RATE_LIMIT_EXEMPT = env.networks("RATE_LIMIT_EXEMPT")
#: Proxies of ours before this process, each of which appends to X-Forwarded-For. With too many, clients choose their
#: own address; with too few, all clients are one.
TRUSTED_PROXIES = env.whole("TRUSTED_PROXIES", 0, most=10)
#: Web processes on all machines together: what each may admit by itself, while cache Redis is away, follows from it.
WEB_PROCESSES = env.whole("WORKERS", 1, least=1, most=10_000)
#: Tickets and clicks of a buyer: a click takes two, and a person in a hurry clicks now and then.
RATE_LIMIT_BUYER = env.rate("RATE_LIMIT_BUYER", "120/20")
#: The same of an address: behind a carrier's router, thousands of buyers press at T0.
RATE_LIMIT_ADDRESS = env.rate("RATE_LIMIT_ADDRESS", "12000/4000")
#: Passwords tried for one name from one address.
RATE_LIMIT_PASSWORD = env.rate("RATE_LIMIT_PASSWORD", "10/10")
#: Sign-ins and sign-ups of an address: each costs a slow hash.
RATE_LIMIT_ACCOUNTS = env.rate("RATE_LIMIT_ACCOUNTS", "600/200")

# --- The door: how many may be inside, and how long the others may wait ----------------------------------------------

#: What a web process answers: the hot few, everything else, or, where nothing in front of it tells them apart, all.
LANE = env.choice("LANE", ("all", "express", "pages"), default="all")
#: Requests that Django works on at a moment, for each process: one that computes while the others wait for a server.
WEB_SLOTS = env.whole("WEB_SLOTS", 4, least=1, most=64)
#: Threads of a web process, as its server was told: those without a slot wait for one, or refuse.
WEB_THREADS = env.whole("WEB_THREADS", 76, least=2 * WEB_SLOTS + 36, most=1_024)
#: Milliseconds that the least and the most important request may wait for a slot.
QUEUE_LEAST_MS = env.whole("QUEUE_LEAST_MS", 20, least=1, most=10_000)
QUEUE_MOST_MS = env.whole("QUEUE_MOST_MS", 250, least=1, most=10_000)
if QUEUE_LEAST_MS > QUEUE_MOST_MS:
    raise env.BadSetting("QUEUE_LEAST_MS", f"must be at most QUEUE_MOST_MS ({QUEUE_MOST_MS}), not {QUEUE_LEAST_MS}")

# --- Django ----------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "inventory",
    "shop",
]
MIDDLEWARE = [
    "shop.answer_times.AnswerTimes",
    "shop.middleware.RequestFrame",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "shop.middleware.Sessions",
    "django.middleware.locale.LocaleMiddleware",
    "shop.middleware.SenselessValueRefusal",
    "shop.middleware.DatabaseAwayAnswer",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "shop.middleware.ForeignPostRefusal",  # last, so that its answers carry what all others do
]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
            ],
        },
    },
]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
if PROFILE == "test":  # a slow hash is the point in production and only slow in a test
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_SSL_REDIRECT = False  # TLS ends at the edge, which redirects: the next line is Django's reminder of that
SILENCED_SYSTEM_CHECKS = ["security.W008"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True
CSRF_TRUSTED_ORIGINS = [SHOP_URL]
CSRF_FAILURE_VIEW = "shop.answers.without_token"
X_FRAME_OPTIONS = "DENY"
#: Bytes of a body that Django reads before it refuses: forms of the admin are the largest we have.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000

USE_TZ = True
TIME_ZONE = env.text("TIME_ZONE", "UTC")
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LANGUAGE_COOKIE_NAME = "lang"
LOCALE_PATHS = [BASE_DIR / "shop" / "locale"]

STATIC_URL = "/static/"
STATIC_ROOT = STATE / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if PROFILE == "test"
        else "shop.static_files.HashedStaticFiles"
    },
}
WHITENOISE_USE_FINDERS = PROFILE == "test"

# --- What is given up under load: by itself, by staff, or by this, which goes before both -----------------------------

#: The glass to break when neither the admin nor a command can be reached; it takes a restart to set it and to end it.
LEVEL = env.choice("LEVEL", ("auto", "NORMAL", "BROWNOUT", "SHED", "STATIC"), default="auto")

# --- Logs ------------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), default="WARNING")
LOG_FORMAT = env.choice("LOG_FORMAT", ("json", "text"), default="json" if PRODUCTION else "text")
#: What happens on behalf of these is told in full, down to DEBUG: `buyer:17,sale:summer,request:4f1c...`.
LOG_IN_DETAIL = env.words("LOG_IN_DETAIL")
#: Lines of one kind (logger, level, template) at once and then a second: together at most twenty a second.
LOG_KEY_BURST = env.whole("LOG_KEY_BURST", 10, least=1, most=10)
LOG_KEY_LINES_A_SECOND = env.whole("LOG_KEY_LINES_A_SECOND", 1, least=1, most=10)
#: Lines a second of a process, of all kinds together.
LOG_LINES_A_SECOND = env.whole("LOG_LINES_A_SECOND", 200, least=1, most=100_000)
#: Lines that may wait to be written; what comes beyond is dropped and counted.
LOG_QUEUE_LINES = env.whole("LOG_QUEUE_LINES", 10_000, least=1, most=1_000_000)

LOGGING_CONFIG = "resilience.quiet_logging.configure"
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": f"resilience.log_lines.{'JsonLines' if LOG_FORMAT == 'json' else 'TextLines'}",
            "secret_names": [
                *("password", "secret", "token", "api_key", "apikey", "signature", "cookie", "authorization"),
                *("sessionid", "ticket", "receipt"),
            ],
            "secrets": [*_secret_keys, *BUYER_KEYS, *TICKET_KEYS, *RECEIPT_KEYS, PROVIDER_SECRET],
        }
    },
    "handlers": {
        "queue": {
            "()": "resilience.log_writer.QueuedHandler",
            "formatter": "line",
            "queue_maximum": LOG_QUEUE_LINES,
        },
        "at_once": {"class": "logging.StreamHandler", "formatter": "line"},
    },
    "root": {"handlers": ["queue"], "level": LOG_LEVEL},
    "loggers": {
        # What must not be lost waits for whoever reads the log, rather than in a queue that may be full.
        "audit": {"handlers": ["at_once"], "level": "INFO", "propagate": False},
        # A line for each attempt to connect while PostgreSQL is away; whoever asked in vain says so too.
        "psycopg.pool": {"level": "ERROR"},
    },
    "quiet": {
        "key_burst": LOG_KEY_BURST,
        "key_lines_a_second": LOG_KEY_LINES_A_SECOND,
        "lines_a_second": LOG_LINES_A_SECOND,
        "spared": ["audit"],
        "watched": LOG_IN_DETAIL,
    },
}
