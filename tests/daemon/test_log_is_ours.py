"""Nothing that a .twc file, or a library that it imports, does to `logging` keeps the daemon's own records from the log."""

from __future__ import annotations

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble

FAULTS = {
    'dictConfig': "logging.config.dictConfig({'version': 1})",
    'dictConfig with handlers': "logging.config.dictConfig({'version': 1, 'root': {'handlers': ['h'], 'level': 'ERROR'}, "
                                "'handlers': {'h': {'class': 'logging.NullHandler'}}})",
    'basicConfig': 'logging.basicConfig(force=True, level=logging.CRITICAL)',
    'shutdown': 'logging.shutdown()',
    'disable': 'logging.disable(logging.CRITICAL)',
    'level': "logging.getLogger('twitcher').setLevel(logging.CRITICAL)",
    'root': 'logging.getLogger().handlers.clear()',
    'all loggers': 'for logger in list(logging.root.manager.loggerDict.values()): logger.disabled = True',
    'manager': 'logging.Logger.manager.loggerDict.clear()',
    'record factory': 'logging.setLogRecordFactory(lambda *args, **names: 1 / 0)',
    'level names': "logging.addLevelName(logging.INFO, '%s' * 100)",
    'constants': 'logging.DEBUG = logging.INFO = logging.WARNING = logging.ERROR = 0',
    'raiseExceptions': 'logging.raiseExceptions = True; logging.LogRecord.getMessage = lambda self: 1 / 0',
    'Handler.handle': 'logging.Handler.handle = lambda self, record: None',
    'Handler.emit': 'logging.Handler.emit = logging.StreamHandler.emit = lambda self, record: None',
    'Logger.handle': 'logging.Logger.handle = logging.Logger.callHandlers = lambda self, record: None',
    'Logger.isEnabledFor': 'logging.Logger.isEnabledFor = lambda self, level: False',
    'Formatter.format': 'logging.Formatter.format = lambda self, record: 1 / 0',
    'LogRecord': 'logging.LogRecord = logging.makeLogRecord = None',
    'handler list': 'for ref in list(logging._handlerList): ref().close()',
}


@pytest.mark.parametrize('fault', FAULTS.values(), ids=FAULTS)
def test_the_daemon_logs_on_after_a_file_has_done_this_to_logging(twitcher: Twitcher, ensemble: Ensemble, fault: str) -> None:
    twitcher.config('a.twc', f"import logging, logging.config\n{fault}\nRegisterWatch('/none', Exec('true'))\n")
    twitcher.config('b.twc', "RegisterWatch('/b', Exec('echo printed; exit 3'), description='it')")
    ensemble.put('/b', '')
    twitcher.start()
    twitcher.wait_log(r'INFO: .*/a\.twc: loaded, 1 watch')
    twitcher.wait_log(r'INFO: .*/b\.twc: loaded, 1 watch')
    twitcher.wait_log(r'INFO: it: pid \d+ started')
    twitcher.wait_log(r'WARNING: it: pid \d+ exited 3')
    twitcher.wait_printed('it', 1)
    twitcher.config('b.twc', "RegisterWatch('/b', Exec('true'), no_such=1)")
    twitcher.wait_log(r'ERROR: .*/b\.twc:1: .*no_such')
    assert twitcher.stop() == 0
    twitcher.wait_log('INFO: SIGTERM: stopping')
    twitcher.wait_log('INFO: ended')


def test_what_a_file_logs_by_logging_is_in_the_log(twitcher: Twitcher) -> None:
    twitcher.config('a.twc', '''
        import logging
        logging.getLogger('mine').warning('%s of the file', 'a warning')
        logging.getLogger('mine').warning('too few arguments: %s %s', 1)
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception('a fault')
    ''')
    twitcher.start()
    twitcher.wait_log(r'a.twc printed: a warning of the file$')  # as in a new process, where it goes to stderr
    twitcher.wait_log(r'a.twc printed: ERROR:root:a fault$')
    twitcher.wait_log(r'a.twc printed: ZeroDivisionError: division by zero$')
