// The dashboard's start.

import { render } from 'preact';
import { App } from './app.tsx';
import { startRouter } from './router.ts';
import { openSession } from './session.ts';
import { startTheme } from './theme.ts';
import './styles/tokens.css';
import './styles/base.css';
import './styles/frame.css';
import './styles/components.css';
import './styles/pages.css';

startTheme();
startRouter();
render(<App />, document.getElementById('app')!);
await openSession();
