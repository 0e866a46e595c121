// The demo page in WebKitGTK.
import { testDemo } from './suite.mjs';

testDemo('webkit');
